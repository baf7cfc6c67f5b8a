// Functions that run on the host and, where nvcc compiles them, on a device.
#pragma once

#ifdef __CUDACC__
#define VOXGRAD_EVERYWHERE __host__ __device__
#else
#define VOXGRAD_EVERYWHERE
#endif
