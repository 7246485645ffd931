/* The contract as the C compiler reads it: kernels.h itself stays free of directives, for cffi. */
#ifndef TGE_H
#define TGE_H

#include <stddef.h>
#include <stdint.h>

#include "kernels.h"

#endif
