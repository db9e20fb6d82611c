// Clocks a top module that counts through all inputs by itself, and writes its 32-bit output after
// each clock edge as a binary number. The argument is how many clock edges.

#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "Vtop.h"
#include "verilated.h"

int main(int argc, char** argv) {
    VerilatedContext context;
    Vtop top{&context};
    const long edges = argc > 1 ? std::atol(argv[1]) : 0;
    top.rst = 0;
    for (long n = 0; n < edges; ++n) {
        top.clk = 0;
        top.eval();
        const std::uint32_t value = top.o;
        std::fwrite(&value, sizeof value, 1, stdout);
        top.clk = 1;
        top.eval();
    }
    top.final();
    return 0;
}
