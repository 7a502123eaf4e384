# rows.c holds the plain loops that the compiler turns into vector code; it is compiled once an
# instruction set with MA_ISA naming the result, and device.c picks one at run time.
