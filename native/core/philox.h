// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw ("Parallel random numbers: as
// easy as 1, 2, 3", SC'11): 128 random bits as a pure function of a counter and a key, the same on every
// device.
#pragma once

#include <cstdint>

#include "everywhere.h"

namespace voxgrad {

// `counter` becomes the random words. Words are given lowest first.
VOXGRAD_EVERYWHERE inline void philox4x32(uint32_t counter[4], const uint32_t key[2]) {
  uint32_t k0 = key[0], k1 = key[1];
  for (int round = 0; round < 10; round++) {
    const uint64_t product0 = uint64_t{0xd2511f53u} * counter[0];
    const uint64_t product1 = uint64_t{0xcd9e8d57u} * counter[2];
    counter[0] = static_cast<uint32_t>(product1 >> 32) ^ counter[1] ^ k0;
    counter[1] = static_cast<uint32_t>(product1);
    counter[2] = static_cast<uint32_t>(product0 >> 32) ^ counter[3] ^ k1;
    counter[3] = static_cast<uint32_t>(product0);
    k0 += 0x9e3779b9u;
    k1 += 0xbb67ae85u;
  }
}

// What all random kernels draw from: block `block` of `stream`, its four words being for elements 4 block to
// 4 block + 3.
struct RandomStream {
  uint32_t key[2];
  uint32_t stream;

  VOXGRAD_EVERYWHERE void draw(uint64_t block, uint32_t words[4]) const {
    words[0] = static_cast<uint32_t>(block);
    words[1] = static_cast<uint32_t>(block >> 32);
    words[2] = stream;
    words[3] = 0;
    philox4x32(words, key);
  }
};

}  // namespace voxgrad
