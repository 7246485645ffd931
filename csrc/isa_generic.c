/* The kernels for any processor: vectors of four that the compiler maps onto what the base has. */
#include "isa.h"

#define VL 4
#define TABLE tge_kernels_generic
#include "kernels/all.h"
