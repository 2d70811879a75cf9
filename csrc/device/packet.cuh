// Four elements per access: 16 bytes where the type is float, two times 16 where it is double.
#pragma once

#include "portability.cuh"

namespace polarity::device {

template <typename T>
struct alignas(16) Quad {
  T value[4];
};

// Elements of a packet, which is a Quad<T> or a single T.
template <typename T, typename Packet>
constexpr int kPacketWidth = static_cast<int>(sizeof(Packet) / sizeof(T));

template <typename Packet, typename T>
POLARITY_DEVICE Packet load_packet(const T* address) {
  return *reinterpret_cast<const Packet*>(address);
}

template <typename Packet, typename T>
POLARITY_DEVICE void store_packet(T* address, const Packet& packet) {
  *reinterpret_cast<Packet*>(address) = packet;
}

// The same in PTX, where nvcc takes the store of a packet apart (benchmarks/kernels/sass.py).
template <typename Packet, typename T>
POLARITY_DEVICE void store_packet_whole(T* address, const Packet& packet) {
#ifdef POLARITY_EMULATED
  store_packet(address, packet);
#else
  if constexpr (sizeof(Packet) % 16 != 0) {
    store_packet(address, packet);
  } else {
    uint4 pieces[sizeof(Packet) / 16];
    memcpy(pieces, &packet, sizeof(Packet));
#pragma unroll
    for (size_t i = 0; i < sizeof(Packet) / 16; ++i) {
      const uint4 piece = pieces[i];
      asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(
                       __cvta_generic_to_global(reinterpret_cast<uint4*>(address) + i)),
                   "r"(piece.x), "r"(piece.y), "r"(piece.z), "r"(piece.w)
                   : "memory");
    }
  }
#endif
}

// Every address is one that a Packet may lie at.
template <typename Packet, typename... Pointers>
bool is_aligned(const Pointers*... addresses) {
  return ((reinterpret_cast<uintptr_t>(addresses) % alignof(Packet) == 0) && ...);
}

// Element i of a packet.
template <typename T>
POLARITY_DEVICE T& element(Quad<T>& packet, int i) {
  return packet.value[i];
}
template <typename T>
POLARITY_DEVICE T& element(T& packet, int) {
  return packet;
}

// Some elements, with arithmetic.
template <typename T, int n>
struct alignas(n * sizeof(T)) Vector {
  T value[n];

  POLARITY_DEVICE Vector& operator+=(const Vector& other) {
#pragma unroll
    for (int i = 0; i < n; ++i) value[i] += other.value[i];
    return *this;
  }
  POLARITY_DEVICE Vector& operator-=(const Vector& other) {
#pragma unroll
    for (int i = 0; i < n; ++i) value[i] -= other.value[i];
    return *this;
  }
  POLARITY_DEVICE friend Vector operator+(Vector a, const Vector& b) { return a += b; }
  POLARITY_DEVICE friend Vector operator-(Vector a, const Vector& b) { return a -= b; }
  POLARITY_DEVICE friend Vector operator*(T factor, Vector a) {
#pragma unroll
    for (int i = 0; i < n; ++i) a.value[i] *= factor;
    return a;
  }
};
template <typename T, int n>
POLARITY_DEVICE T& element(Vector<T, n>& packet, int i) {
  return packet.value[i];
}

}  // namespace polarity::device
