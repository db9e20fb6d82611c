// The simulator's main program: Verilator's model, cocotb's VPI, and a clock of its own.
//
// cocotb can drive a clock, but then every edge costs a timed callback and a VPI write. Here the
// clock toggles in this loop, one time unit per half period, so that an edge nobody waits for
// costs no more than the evaluation of the model. Everything else follows cocotb's rules: who
// waits for a clock edge sees the values from before it, and what he writes then takes effect
// after it.

#include <cstdint>
#include <memory>

#include "Vbench.h"
#include "verilated.h"
#if VM_COVERAGE
#include "verilated_cov.h"
#endif
#include "verilated_vpi.h"

static constexpr std::uint64_t NEVER = ~std::uint64_t{0};
static constexpr int IDLE_EDGES = 1000;

static std::uint64_t now = 0;

double sc_time_stamp() { return static_cast<double>(now); }

extern "C" {
void vlog_startup_routines_bootstrap(void);
}

static void settle_callbacks() {
    while (VerilatedVpi::callValueCbs()) {
    }
}

static void evaluate(Vbench& top) {
    do {
        do {
            top.eval_step();
            VerilatedVpi::clearEvalNeeded();
            VerilatedVpi::doInertialPuts();
            settle_callbacks();
        } while (VerilatedVpi::evalNeeded());
        VerilatedVpi::callCbs(cbReadWriteSynch);
        VerilatedVpi::doInertialPuts();
        settle_callbacks();
    } while (VerilatedVpi::evalNeeded());
    top.eval_end_step();
    VerilatedVpi::callCbs(cbReadOnlySynch);
}

int main(int argc, char** argv) {
    Verilated::commandArgs(argc, argv);
    Verilated::fatalOnVpiError(false);
    const std::unique_ptr<Vbench> top{new Vbench{""}};

    vlog_startup_routines_bootstrap();
    VerilatedVpi::callCbs(cbStartOfSimulation);
    settle_callbacks();
    evaluate(*top);

    // The clock would run for ever where cocotb did not start, or has nothing more to wait for.
    int idle = 0;
    while (!Verilated::gotFinish() && idle < IDLE_EDGES) {
        const std::uint64_t edge = now + 1;
        const std::uint64_t next = VerilatedVpi::cbNextDeadline();
        idle = next == NEVER && !VerilatedVpi::hasCbs(cbValueChange) ? idle + 1 : 0;
        // Deadlines are whole time units, so none lies between now and the next edge.
        const bool deadline = next <= edge;
        now = edge;
        VerilatedVpi::callCbs(cbNextSimTime);
        if (deadline) {
            VerilatedVpi::callTimedCbs();
        }
        settle_callbacks();
        top->clk = now & 1;
        settle_callbacks();
        evaluate(*top);
#if VM_COVERAGE
        // In the first cycle everything leaves the random value with which it was compared.
        if (now == 2) {
            Verilated::threadContextp()->coveragep()->zero();
        }
#endif
    }

    top->final();
    VerilatedVpi::callCbs(cbEndOfSimulation);
#if VM_COVERAGE
    Verilated::threadContextp()->coveragep()->write();
#endif
    return Verilated::threadContextp()->errorCount() > 0 ? 1 : 0;
}
