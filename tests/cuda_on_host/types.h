/* CUDA's small vector types, laid out and aligned as CUDA does. */
#ifndef FL_HOST_TYPES_H
#define FL_HOST_TYPES_H

struct uint3 {
  unsigned x, y, z;
};

struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

#define FL_HOST_VECTOR2(type, name, align) \
  struct alignas(align) name {             \
    type x, y;                             \
  };                                       \
  static inline name make_##name(type x, type y) { return name{x, y}; }
#define FL_HOST_VECTOR4(type, name, align) \
  struct alignas(align) name {             \
    type x, y, z, w;                       \
  };                                       \
  static inline name make_##name(type x, type y, type z, type w) { return name{x, y, z, w}; }

FL_HOST_VECTOR2(float, float2, 8)
FL_HOST_VECTOR2(int, int2, 8)
FL_HOST_VECTOR2(unsigned, uint2, 8)
FL_HOST_VECTOR2(double, double2, 16)
FL_HOST_VECTOR2(long long, longlong2, 16)
FL_HOST_VECTOR4(float, float4, 16)
FL_HOST_VECTOR4(int, int4, 16)
FL_HOST_VECTOR4(unsigned, uint4, 16)
FL_HOST_VECTOR4(unsigned char, uchar4, 4)

#endif
