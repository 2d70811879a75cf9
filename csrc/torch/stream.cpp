#include <dlfcn.h>

#include <stdexcept>

#include "check.h"

namespace polarity {

void* current_cuda_stream(int32_t device_index) {
  using GetStream = int32_t (*)(int32_t, void**);
  // The symbol lives in libtorch_cuda.so, which RTLD_DEFAULT does not search.
  static const GetStream get_stream = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_NOLOAD | RTLD_LAZY);
    void* symbol = library ? dlsym(library, "aoti_torch_get_current_cuda_stream") : nullptr;
    return reinterpret_cast<GetStream>(symbol);
  }();
  if (get_stream == nullptr) {
    throw std::runtime_error(
        "polarity_ext: this torch has no CUDA streams (libtorch_cuda.so is not loaded);"
        " install a CUDA build of torch");
  }
  void* stream = nullptr;
  if (get_stream(device_index, &stream) != 0) {
    throw std::runtime_error("polarity_ext: torch did not give its current CUDA stream");
  }
  return stream;
}

}  // namespace polarity
