#include "current_device.h"

#include <cuda_runtime_api.h>

#include <stdexcept>
#include <string>

namespace polarity {
namespace {

void check(cudaError_t status) {
  if (status != cudaSuccess) {
    throw std::runtime_error(std::string("polarity_ext: CUDA device: ") +
                             cudaGetErrorString(status));
  }
}

}  // namespace

CurrentDevice::CurrentDevice(int index) {
  check(cudaGetDevice(&before_));
  check(cudaSetDevice(index));
}

CurrentDevice::~CurrentDevice() { static_cast<void>(cudaSetDevice(before_)); }

}  // namespace polarity
