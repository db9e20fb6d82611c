// Behavioural model of the iCE40 UltraPlus block that hdl/ instantiates, for simulation and for
// proofs. What the block does in a mode is an assumption, by Lattice's guides; none of it has been
// measured on a device. Yosys has a model of its own (ice40/cells_sim.v), which is of no use here,
// because it computes the product in four parts; the tests hold the two against each other.
//
//   [DSP]  FPGA-TN-02007, DSP Function Usage Guide for iCE40 Devices
//   [LIB]  Lattice iCE Technology Library, SB_MAC16
//
// Only the modes in use are modelled. Any other parameter ends the elaboration; outputs that these
// modes do not use are left out, so connecting one ends it too; an input that would leave the mode
// (a reset, a held operand, a subtraction, a carry) makes the output undefined. A missing module
// is what ends it for certain: Verilator can be told to go on after $error, and Icarus knows it in
// SystemVerilog alone. Defaults are the device's, so read the file with Yosys's `read_verilog -sv
// -defer`.

`default_nettype none

// Multiplier, 16 by 16 bits, each operand signed or not, with operand registers, and either a
// register for the product or an accumulator of 32 bits, with or without a register before it.
//
// - A_SIGNED and B_SIGNED = 1 make the operand one in two's complement; MODE_8x8 = 0 is the one
//   multiplier of 16 bits. [DSP; LIB]
// - A_REG and B_REG = 1 put the operand registers in, on the rising edge of CLK (NEG_TRIGGER = 0).
//   PIPELINE_16x16_MULT_REG2 = 1 puts one in behind the multiplier. PIPELINE_16x16_MULT_REG1 and
//   *_8x8_MULT_REG = 0 leave those out that lie within it. CE, active high, lets all registers
//   take a value. [LIB]
// - *OUTPUT_SELECT = 3 gives the product at O, 1 the accumulator: the upper half at O[31:16] (TOP),
//   the lower one at O[15:0] (BOT). [LIB]
// - *ADDSUB_UPPERINPUT = 0 and *ADDSUB_LOWERINPUT = 2 add the product to the accumulator;
//   TOPADDSUB_CARRYSELECT = 3 takes the carry of the lower half. OLOAD*, active high, loads {C, D}
//   in place of the sum, and OHOLD*, active high, keeps the accumulator whatever OLOAD* says.
//   [LIB]
module SB_MAC16 #(
    parameter [0:0] NEG_TRIGGER = 0,
    parameter [0:0] C_REG = 0,
    parameter [0:0] A_REG = 0,
    parameter [0:0] B_REG = 0,
    parameter [0:0] D_REG = 0,
    parameter [0:0] TOP_8x8_MULT_REG = 0,
    parameter [0:0] BOT_8x8_MULT_REG = 0,
    parameter [0:0] PIPELINE_16x16_MULT_REG1 = 0,
    parameter [0:0] PIPELINE_16x16_MULT_REG2 = 0,
    parameter [1:0] TOPOUTPUT_SELECT = 0,
    parameter [1:0] TOPADDSUB_LOWERINPUT = 0,
    parameter [0:0] TOPADDSUB_UPPERINPUT = 0,
    parameter [1:0] TOPADDSUB_CARRYSELECT = 0,
    parameter [1:0] BOTOUTPUT_SELECT = 0,
    parameter [1:0] BOTADDSUB_LOWERINPUT = 0,
    parameter [0:0] BOTADDSUB_UPPERINPUT = 0,
    parameter [1:0] BOTADDSUB_CARRYSELECT = 0,
    parameter [0:0] MODE_8x8 = 0,
    parameter [0:0] A_SIGNED = 0,
    parameter [0:0] B_SIGNED = 0
) (
    input wire CLK, CE,
    input wire [15:0] C, A, B, D,
    input wire AHOLD, BHOLD, CHOLD, DHOLD, IRSTTOP, IRSTBOT, ORSTTOP, ORSTBOT,
    input wire OLOADTOP, OLOADBOT, ADDSUBTOP, ADDSUBBOT, OHOLDTOP, OHOLDBOT,
    input wire CI, ACCUMCI, SIGNEXTIN,
    output wire [31:0] O
);
    localparam PRODUCT = TOPOUTPUT_SELECT == 3 && BOTOUTPUT_SELECT == 3 &&
        PIPELINE_16x16_MULT_REG2 == 1;
    localparam ACCUMULATE = TOPOUTPUT_SELECT == 1 && BOTOUTPUT_SELECT == 1 &&
        TOPADDSUB_LOWERINPUT == 2 && BOTADDSUB_LOWERINPUT == 2 &&
        TOPADDSUB_CARRYSELECT == 3 && BOTADDSUB_CARRYSELECT == 0;
    generate
        if (!(PRODUCT || ACCUMULATE) || A_REG != 1 || B_REG != 1 || C_REG != 0 || D_REG != 0 ||
            NEG_TRIGGER != 0 || MODE_8x8 != 0 || PIPELINE_16x16_MULT_REG1 != 0 ||
            TOP_8x8_MULT_REG != 0 || BOT_8x8_MULT_REG != 0 ||
            TOPADDSUB_UPPERINPUT != 0 || BOTADDSUB_UPPERINPUT != 0) begin
`ifndef __ICARUS__
            $error("SB_MAC16 is modelled as a multiplier with operand registers alone, with one ",
                   "for the product or an accumulator behind it");
`endif
            SB_MAC16_mode_without_model stop ();
        end
    endgenerate

    wire left = AHOLD || BHOLD || CHOLD || DHOLD || IRSTTOP || IRSTBOT || ORSTTOP || ORSTBOT ||
        ADDSUBTOP || ADDSUBBOT || CI || ACCUMCI || SIGNEXTIN ||
        OLOADTOP != OLOADBOT || OHOLDTOP != OHOLDBOT;

    // One bit more makes a signed number of either kind.
    reg signed [16:0] a = 17'd0;
    reg signed [16:0] b = 17'd0;
    reg signed [31:0] p = 32'd0;
    reg [31:0] sum = 32'd0;
    wire signed [31:0] product = a * b;

    always @(posedge CLK)
        if (left) begin
            a <= 17'bx;
            b <= 17'bx;
            p <= 32'bx;
            sum <= 32'bx;
        end else if (CE) begin
            a <= {A_SIGNED & A[15], A};
            b <= {B_SIGNED & B[15], B};
            p <= product;
            if (!OHOLDTOP)
                sum <= OLOADTOP ? {C, D} : sum + (PIPELINE_16x16_MULT_REG2 ? p : product);
        end

    assign O = PRODUCT ? p : sum;
endmodule

`default_nettype wire
