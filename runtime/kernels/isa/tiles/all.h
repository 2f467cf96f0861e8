// Every tile, written in terms of the `Vector` that is included before, and the table of them.
#pragma once

#include "isa/tiles/attention.h"
#include "isa/tiles/attention_int8.h"
#include "isa/tiles/competing_filters.h"
#include "isa/tiles/filter_bank.h"
#include "isa/tiles/linear.h"
#include "isa/tiles/mass.h"
#include "isa/tiles/pack.h"
#include "isa/tiles/pooling.h"
#include "isa/tiles/shares.h"

// It names what the headers above define.
#include "isa/fill_table.h"
