// The structures a DLPack capsule points to, as the DLPack 1.0 specification lays them out. What
// is named here is read here; enumerators are those this extension understands.
#pragma once

#include <cstdint>

namespace polarity::dlpack {

constexpr char kLegacyName[] = "dltensor";  // of a capsule with a ManagedTensor
constexpr char kVersionedName[] = "dltensor_versioned";
constexpr uint32_t kMajorVersion = 1;
constexpr uint64_t kReadOnly = 1;  // bit of VersionedTensor::flags

constexpr int32_t kCpu = 1;
constexpr int32_t kCuda = 2;
constexpr int32_t kCudaManaged = 13;
constexpr uint8_t kInt = 0, kFloat = 2;  // type codes

struct Device {
  int32_t type, index;
};

struct DataType {
  uint8_t code, bits;
  uint16_t lanes;
};

struct Tensor {
  void* data;
  Device device;
  int32_t ndim;
  DataType dtype;
  int64_t* shape;
  int64_t* strides;  // in elements; null: row-major without gaps
  uint64_t byte_offset;
};

struct ManagedTensor {
  Tensor tensor;
  void* context;
  void (*deleter)(ManagedTensor*);
};

struct VersionedTensor {
  uint32_t major, minor;
  void* context;
  void (*deleter)(VersionedTensor*);
  uint64_t flags;
  Tensor tensor;
};

}  // namespace polarity::dlpack
