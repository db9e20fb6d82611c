// Behavioural models of the ECP5 blocks that hdl/ instantiates, for simulation and for proofs.
// Yosys has the names of their ports and parameters (ecp5/cells_bb.v, ecp5/cells_sim.v), but no
// behaviour. What a block does in a mode is an assumption, by Lattice's guides and what else is
// named beside it; none of it has been measured on a device.
//
//   [DSP]  FPGA-TN-02205, ECP5 and ECP5-5G sysDSP Usage Guide
//   [EBR]  FPGA-TN-02204, ECP5 and ECP5-5G Memory Usage Guide
//
// Only the modes in use are modelled. Any other parameter ends the elaboration; ports that these
// modes do not use are left out, so connecting one ends it too; an input that would leave the mode
// (a write, a reset, an operand from the block beside) makes the output undefined. A missing module
// is what ends it for certain: Verilator can be told to go on after $error. Defaults are the
// device's, so read the file with Yosys's `read_verilog -sv -defer`.

`default_nettype none

// Multiplier, 18 by 18 bits, each operand signed or not, with operand and output registers.
//
// - SIGNEDA and SIGNEDB = 1 make the operand one in two's complement. They are registered along
//   with it, and the product is exact, in 36 bits. [DSP: MULT18X18D]
// - REG_INPUTA_CLK, REG_INPUTB_CLK and REG_OUTPUT_CLK = CLK0 put the register in, on the rising
//   edge of CLK0; REG_INPUTC_CLK and REG_PIPELINE_CLK = NONE leave it out. CE0, active high, lets
//   the registers take a value; RST0, active high, clears them. [DSP: MULT18X18D, attributes]
// - SOURCEA and SOURCEB = 0 take the operand from the fabric. SOURCEB_MODE = B_SHIFT keeps the
//   third operand, C, out; CAS_MATCH_REG is of no effect without a cascade; MULT_BYPASS = DISABLED
//   is the multiplier in use. [DSP: MULT18X18D, attributes]
// - GSR = DISABLED keeps the global reset away from the registers. [DSP: attributes]
module MULT18X18D #(
    parameter REG_INPUTA_CLK = "NONE",
    parameter REG_INPUTA_CE = "CE0",
    parameter REG_INPUTA_RST = "RST0",
    parameter REG_INPUTB_CLK = "NONE",
    parameter REG_INPUTB_CE = "CE0",
    parameter REG_INPUTB_RST = "RST0",
    parameter REG_INPUTC_CLK = "NONE",
    parameter REG_PIPELINE_CLK = "NONE",
    parameter REG_OUTPUT_CLK = "NONE",
    parameter REG_OUTPUT_CE = "CE0",
    parameter REG_OUTPUT_RST = "RST0",
    parameter MULT_BYPASS = "DISABLED",
    parameter SOURCEB_MODE = "B_SHIFT",
    parameter CAS_MATCH_REG = "FALSE",
    parameter RESETMODE = "SYNC",
    parameter GSR = "ENABLED"
) (
    input wire A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0,
    input wire B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0,
    input wire C17, C16, C15, C14, C13, C12, C11, C10, C9, C8, C7, C6, C5, C4, C3, C2, C1, C0,
    input wire SIGNEDA, SIGNEDB, SOURCEA, SOURCEB, CLK0, CE0, RST0,
    output wire P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20,
        P19, P18, P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2,
        P1, P0
);
    generate
        if (REG_INPUTA_CLK != "CLK0" || REG_INPUTA_CE != "CE0" || REG_INPUTA_RST != "RST0" ||
            REG_INPUTB_CLK != "CLK0" || REG_INPUTB_CE != "CE0" || REG_INPUTB_RST != "RST0" ||
            REG_OUTPUT_CLK != "CLK0" || REG_OUTPUT_CE != "CE0" || REG_OUTPUT_RST != "RST0" ||
            REG_INPUTC_CLK != "NONE" || REG_PIPELINE_CLK != "NONE" ||
            MULT_BYPASS != "DISABLED" || SOURCEB_MODE != "B_SHIFT" || CAS_MATCH_REG != "FALSE" ||
            RESETMODE != "SYNC" || GSR != "DISABLED") begin
            $error("MULT18X18D is modelled with operand and output registers on CLK0 alone");
            MULT18X18D_mode_without_model stop ();
        end
    endgenerate

    wire [17:0] operand_a = {
        A17, A16, A15, A14, A13, A12, A11, A10, A9, A8, A7, A6, A5, A4, A3, A2, A1, A0
    };
    wire [17:0] operand_b = {
        B17, B16, B15, B14, B13, B12, B11, B10, B9, B8, B7, B6, B5, B4, B3, B2, B1, B0
    };

    // One bit more makes a signed number of either kind.
    reg signed [18:0] a = 19'd0;
    reg signed [18:0] b = 19'd0;
    reg signed [35:0] p = 36'd0;

    always @(posedge CLK0)
        if (RST0 || SOURCEA || SOURCEB) begin
            a <= 19'bx;
            b <= 19'bx;
            p <= 36'bx;
        end else if (CE0) begin
            a <= {SIGNEDA & A17, operand_a};
            b <= {SIGNEDB & B17, operand_b};
            p <= a * b;
        end

    assign {
        P35, P34, P33, P32, P31, P30, P29, P28, P27, P26, P25, P24, P23, P22, P21, P20, P19,
        P18, P17, P16, P15, P14, P13, P12, P11, P10, P9, P8, P7, P6, P5, P4, P3, P2, P1, P0
    } = p;
endmodule

// Block RAM as a memory that is only read: 1024 words of 18 bits, two ports, output registers.
//
// - DATA_WIDTH_* = 18: AD*13 to AD*4 are the word's address; AD*1 and AD*0 enable the bytes of a
//   write, AD*3 and AD*2 are void. [EBR: true dual port RAM; also lattice/brams_map_16kd.v]
// - The memory is read on the rising edge of CLK* where CE* is high. REGMODE_* = OUTREG puts one
//   register more behind it, which takes the word where OCE* is high. [EBR: true dual port RAM,
//   output register]
// - WE* = 0 reads. CS*2 to CS*0 equal to CSDECODE_* select the block. RST*, active high, clears
//   the registers. WRITEMODE_* is of no effect without a write. [EBR: true dual port RAM,
//   attributes]
// - INITVAL_00 to INITVAL_3F are the contents: sixteen words each, the first in the lowest bits,
//   each in 20 bits of which the upper two are void. [EBR: initialization; the layout is the one
//   that lattice/brams_map_16kd.v of Yosys writes and nextpnr-ecp5 reads]
// - Output and registers are 0 at power-up. GSR = DISABLED keeps the global reset away from them.
//   [EBR: attributes]
module DP16KD #(
    parameter DATA_WIDTH_A = 18,
    parameter DATA_WIDTH_B = 18,
    parameter REGMODE_A = "NOREG",
    parameter REGMODE_B = "NOREG",
    parameter CSDECODE_A = "0b000",
    parameter CSDECODE_B = "0b000",
    parameter WRITEMODE_A = "NORMAL",
    parameter WRITEMODE_B = "NORMAL",
    parameter RESETMODE = "SYNC",
    parameter ASYNC_RESET_RELEASE = "SYNC",
    parameter GSR = "ENABLED",
    parameter [319:0] INITVAL_00 = 320'd0,
    parameter [319:0] INITVAL_01 = 320'd0,
    parameter [319:0] INITVAL_02 = 320'd0,
    parameter [319:0] INITVAL_03 = 320'd0,
    parameter [319:0] INITVAL_04 = 320'd0,
    parameter [319:0] INITVAL_05 = 320'd0,
    parameter [319:0] INITVAL_06 = 320'd0,
    parameter [319:0] INITVAL_07 = 320'd0,
    parameter [319:0] INITVAL_08 = 320'd0,
    parameter [319:0] INITVAL_09 = 320'd0,
    parameter [319:0] INITVAL_0A = 320'd0,
    parameter [319:0] INITVAL_0B = 320'd0,
    parameter [319:0] INITVAL_0C = 320'd0,
    parameter [319:0] INITVAL_0D = 320'd0,
    parameter [319:0] INITVAL_0E = 320'd0,
    parameter [319:0] INITVAL_0F = 320'd0,
    parameter [319:0] INITVAL_10 = 320'd0,
    parameter [319:0] INITVAL_11 = 320'd0,
    parameter [319:0] INITVAL_12 = 320'd0,
    parameter [319:0] INITVAL_13 = 320'd0,
    parameter [319:0] INITVAL_14 = 320'd0,
    parameter [319:0] INITVAL_15 = 320'd0,
    parameter [319:0] INITVAL_16 = 320'd0,
    parameter [319:0] INITVAL_17 = 320'd0,
    parameter [319:0] INITVAL_18 = 320'd0,
    parameter [319:0] INITVAL_19 = 320'd0,
    parameter [319:0] INITVAL_1A = 320'd0,
    parameter [319:0] INITVAL_1B = 320'd0,
    parameter [319:0] INITVAL_1C = 320'd0,
    parameter [319:0] INITVAL_1D = 320'd0,
    parameter [319:0] INITVAL_1E = 320'd0,
    parameter [319:0] INITVAL_1F = 320'd0,
    parameter [319:0] INITVAL_20 = 320'd0,
    parameter [319:0] INITVAL_21 = 320'd0,
    parameter [319:0] INITVAL_22 = 320'd0,
    parameter [319:0] INITVAL_23 = 320'd0,
    parameter [319:0] INITVAL_24 = 320'd0,
    parameter [319:0] INITVAL_25 = 320'd0,
    parameter [319:0] INITVAL_26 = 320'd0,
    parameter [319:0] INITVAL_27 = 320'd0,
    parameter [319:0] INITVAL_28 = 320'd0,
    parameter [319:0] INITVAL_29 = 320'd0,
    parameter [319:0] INITVAL_2A = 320'd0,
    parameter [319:0] INITVAL_2B = 320'd0,
    parameter [319:0] INITVAL_2C = 320'd0,
    parameter [319:0] INITVAL_2D = 320'd0,
    parameter [319:0] INITVAL_2E = 320'd0,
    parameter [319:0] INITVAL_2F = 320'd0,
    parameter [319:0] INITVAL_30 = 320'd0,
    parameter [319:0] INITVAL_31 = 320'd0,
    parameter [319:0] INITVAL_32 = 320'd0,
    parameter [319:0] INITVAL_33 = 320'd0,
    parameter [319:0] INITVAL_34 = 320'd0,
    parameter [319:0] INITVAL_35 = 320'd0,
    parameter [319:0] INITVAL_36 = 320'd0,
    parameter [319:0] INITVAL_37 = 320'd0,
    parameter [319:0] INITVAL_38 = 320'd0,
    parameter [319:0] INITVAL_39 = 320'd0,
    parameter [319:0] INITVAL_3A = 320'd0,
    parameter [319:0] INITVAL_3B = 320'd0,
    parameter [319:0] INITVAL_3C = 320'd0,
    parameter [319:0] INITVAL_3D = 320'd0,
    parameter [319:0] INITVAL_3E = 320'd0,
    parameter [319:0] INITVAL_3F = 320'd0
) (
    input wire ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4, ADA3, ADA2,
        ADA1, ADA0,
    input wire DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9, DIA8, DIA7, DIA6,
        DIA5, DIA4, DIA3, DIA2, DIA1, DIA0,
    input wire CLKA, CEA, OCEA, WEA, RSTA, CSA2, CSA1, CSA0,
    output wire DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6,
        DOA5, DOA4, DOA3, DOA2, DOA1, DOA0,
    input wire ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4, ADB3, ADB2,
        ADB1, ADB0,
    input wire DIB17, DIB16, DIB15, DIB14, DIB13, DIB12, DIB11, DIB10, DIB9, DIB8, DIB7, DIB6,
        DIB5, DIB4, DIB3, DIB2, DIB1, DIB0,
    input wire CLKB, CEB, OCEB, WEB, RSTB, CSB2, CSB1, CSB0,
    output wire DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6,
        DOB5, DOB4, DOB3, DOB2, DOB1, DOB0
);
    generate
        if (DATA_WIDTH_A != 18 || DATA_WIDTH_B != 18 ||
            REGMODE_A != "OUTREG" || REGMODE_B != "OUTREG" ||
            CSDECODE_A != "0b000" || CSDECODE_B != "0b000" ||
            WRITEMODE_A != "NORMAL" || WRITEMODE_B != "NORMAL" ||
            RESETMODE != "SYNC" || ASYNC_RESET_RELEASE != "SYNC" || GSR != "DISABLED") begin
            $error("DP16KD is modelled with two ports of 18 bits and output registers alone");
            DP16KD_mode_without_model stop ();
        end
    endgenerate

    reg [17:0] words [0:1023];
    integer n;
    initial
        for (n = 0; n < 16; n = n + 1) begin
            words[0 + n] = INITVAL_00[20 * n +: 18];
            words[16 + n] = INITVAL_01[20 * n +: 18];
            words[32 + n] = INITVAL_02[20 * n +: 18];
            words[48 + n] = INITVAL_03[20 * n +: 18];
            words[64 + n] = INITVAL_04[20 * n +: 18];
            words[80 + n] = INITVAL_05[20 * n +: 18];
            words[96 + n] = INITVAL_06[20 * n +: 18];
            words[112 + n] = INITVAL_07[20 * n +: 18];
            words[128 + n] = INITVAL_08[20 * n +: 18];
            words[144 + n] = INITVAL_09[20 * n +: 18];
            words[160 + n] = INITVAL_0A[20 * n +: 18];
            words[176 + n] = INITVAL_0B[20 * n +: 18];
            words[192 + n] = INITVAL_0C[20 * n +: 18];
            words[208 + n] = INITVAL_0D[20 * n +: 18];
            words[224 + n] = INITVAL_0E[20 * n +: 18];
            words[240 + n] = INITVAL_0F[20 * n +: 18];
            words[256 + n] = INITVAL_10[20 * n +: 18];
            words[272 + n] = INITVAL_11[20 * n +: 18];
            words[288 + n] = INITVAL_12[20 * n +: 18];
            words[304 + n] = INITVAL_13[20 * n +: 18];
            words[320 + n] = INITVAL_14[20 * n +: 18];
            words[336 + n] = INITVAL_15[20 * n +: 18];
            words[352 + n] = INITVAL_16[20 * n +: 18];
            words[368 + n] = INITVAL_17[20 * n +: 18];
            words[384 + n] = INITVAL_18[20 * n +: 18];
            words[400 + n] = INITVAL_19[20 * n +: 18];
            words[416 + n] = INITVAL_1A[20 * n +: 18];
            words[432 + n] = INITVAL_1B[20 * n +: 18];
            words[448 + n] = INITVAL_1C[20 * n +: 18];
            words[464 + n] = INITVAL_1D[20 * n +: 18];
            words[480 + n] = INITVAL_1E[20 * n +: 18];
            words[496 + n] = INITVAL_1F[20 * n +: 18];
            words[512 + n] = INITVAL_20[20 * n +: 18];
            words[528 + n] = INITVAL_21[20 * n +: 18];
            words[544 + n] = INITVAL_22[20 * n +: 18];
            words[560 + n] = INITVAL_23[20 * n +: 18];
            words[576 + n] = INITVAL_24[20 * n +: 18];
            words[592 + n] = INITVAL_25[20 * n +: 18];
            words[608 + n] = INITVAL_26[20 * n +: 18];
            words[624 + n] = INITVAL_27[20 * n +: 18];
            words[640 + n] = INITVAL_28[20 * n +: 18];
            words[656 + n] = INITVAL_29[20 * n +: 18];
            words[672 + n] = INITVAL_2A[20 * n +: 18];
            words[688 + n] = INITVAL_2B[20 * n +: 18];
            words[704 + n] = INITVAL_2C[20 * n +: 18];
            words[720 + n] = INITVAL_2D[20 * n +: 18];
            words[736 + n] = INITVAL_2E[20 * n +: 18];
            words[752 + n] = INITVAL_2F[20 * n +: 18];
            words[768 + n] = INITVAL_30[20 * n +: 18];
            words[784 + n] = INITVAL_31[20 * n +: 18];
            words[800 + n] = INITVAL_32[20 * n +: 18];
            words[816 + n] = INITVAL_33[20 * n +: 18];
            words[832 + n] = INITVAL_34[20 * n +: 18];
            words[848 + n] = INITVAL_35[20 * n +: 18];
            words[864 + n] = INITVAL_36[20 * n +: 18];
            words[880 + n] = INITVAL_37[20 * n +: 18];
            words[896 + n] = INITVAL_38[20 * n +: 18];
            words[912 + n] = INITVAL_39[20 * n +: 18];
            words[928 + n] = INITVAL_3A[20 * n +: 18];
            words[944 + n] = INITVAL_3B[20 * n +: 18];
            words[960 + n] = INITVAL_3C[20 * n +: 18];
            words[976 + n] = INITVAL_3D[20 * n +: 18];
            words[992 + n] = INITVAL_3E[20 * n +: 18];
            words[1008 + n] = INITVAL_3F[20 * n +: 18];
        end

    reg [17:0] read_a = 18'd0;
    reg [17:0] out_a = 18'd0;
    wire [9:0] word_a = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4};
    always @(posedge CLKA) begin
        if (CEA)
            read_a <= words[word_a];
        if (OCEA)
            out_a <= read_a;
        if (WEA || RSTA || CSA2 || CSA1 || CSA0) begin
            read_a <= 18'bx;
            out_a <= 18'bx;
        end
    end
    assign {
        DOA17, DOA16, DOA15, DOA14, DOA13, DOA12, DOA11, DOA10, DOA9, DOA8, DOA7, DOA6,
        DOA5, DOA4, DOA3, DOA2, DOA1, DOA0
    } = out_a;

    reg [17:0] read_b = 18'd0;
    reg [17:0] out_b = 18'd0;
    wire [9:0] word_b = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4};
    always @(posedge CLKB) begin
        if (CEB)
            read_b <= words[word_b];
        if (OCEB)
            out_b <= read_b;
        if (WEB || RSTB || CSB2 || CSB1 || CSB0) begin
            read_b <= 18'bx;
            out_b <= 18'bx;
        end
    end
    assign {
        DOB17, DOB16, DOB15, DOB14, DOB13, DOB12, DOB11, DOB10, DOB9, DOB8, DOB7, DOB6,
        DOB5, DOB4, DOB3, DOB2, DOB1, DOB0
    } = out_b;
endmodule

`default_nettype wire
