/* What the kernels need besides vectors, included by isa_*.c before a target region begins: the standard headers must not be compiled
 * for an instruction set (gcc then refuses to inline the functions that they define). */
#ifndef TGE_ISA_H
#define TGE_ISA_H

#include <math.h>
#include <string.h>

#include "registry.h"
#include "threads.h"

#endif
