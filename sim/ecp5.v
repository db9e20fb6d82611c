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
// is what ends it for certain: Verilator can be told to go on after $error, and Icarus knows it in
// SystemVerilog alone. Defaults are the device's, so read the file with Yosys's `read_verilog -sv
// -defer`.

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
`ifndef __ICARUS__
            $error("MULT18X18D is modelled with operand and output registers on CLK0 alone");
`endif
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

// Block RAM with two ports and output registers: 1024 words of 18 bits, 2048 of 9, 4096 of 4, 8192
// of 2 or 16384 of 1. Port B only reads. Port A writes, where the words have 18 or 9 bits.
//
// - DATA_WIDTH_* = 18, 9, 4, 2 or 1: AD*13 and down to AD*4, 3, 2, 1 or 0 are the word's address.
//   AD*1 and AD*0 enable the bytes of a write where they are not part of it; the others below are
//   void. [EBR: true dual port RAM; also lattice/brams_map_16kd.v]
// - The memory is read on the rising edge of CLK* where CE* is high. REGMODE_* = OUTREG puts one
//   register more behind it, which takes the word where OCE* is high. [EBR: true dual port RAM,
//   output register]
// - WE* = 0 reads, WE* = 1 writes DI* on the same edge; of 18 bits AD*0 high writes the lower 9 and
//   AD*1 high the upper 9. What the port puts out then is not relied on: the model makes it wrong.
//   Neither is what one port reads while the other writes the same place. [EBR: true dual port RAM]
// - CS*2 to CS*0 equal to CSDECODE_* select the block. RST*, active high, clears
//   the registers. WRITEMODE_* is of no effect without a write. [EBR: true dual port RAM,
//   attributes]
// - INITVAL_00 to INITVAL_3F are the contents: sixteen rows each, the first in the lowest bits,
//   each in 20 bits of which the upper two are void. A row is a word of 18 bits or two of 9; of
//   these, words of 4, 2 and 1 bits fill the lower eight, the first in the lowest bits. [EBR:
//   initialization; the layout is the one that lattice/brams_16kd.txt and brams_map_16kd.v of Yosys
//   describe and nextpnr-ecp5 reads]
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
    parameter [319:0]
        INITVAL_00 = 0, INITVAL_01 = 0, INITVAL_02 = 0, INITVAL_03 = 0,
        INITVAL_04 = 0, INITVAL_05 = 0, INITVAL_06 = 0, INITVAL_07 = 0,
        INITVAL_08 = 0, INITVAL_09 = 0, INITVAL_0A = 0, INITVAL_0B = 0,
        INITVAL_0C = 0, INITVAL_0D = 0, INITVAL_0E = 0, INITVAL_0F = 0,
        INITVAL_10 = 0, INITVAL_11 = 0, INITVAL_12 = 0, INITVAL_13 = 0,
        INITVAL_14 = 0, INITVAL_15 = 0, INITVAL_16 = 0, INITVAL_17 = 0,
        INITVAL_18 = 0, INITVAL_19 = 0, INITVAL_1A = 0, INITVAL_1B = 0,
        INITVAL_1C = 0, INITVAL_1D = 0, INITVAL_1E = 0, INITVAL_1F = 0,
        INITVAL_20 = 0, INITVAL_21 = 0, INITVAL_22 = 0, INITVAL_23 = 0,
        INITVAL_24 = 0, INITVAL_25 = 0, INITVAL_26 = 0, INITVAL_27 = 0,
        INITVAL_28 = 0, INITVAL_29 = 0, INITVAL_2A = 0, INITVAL_2B = 0,
        INITVAL_2C = 0, INITVAL_2D = 0, INITVAL_2E = 0, INITVAL_2F = 0,
        INITVAL_30 = 0, INITVAL_31 = 0, INITVAL_32 = 0, INITVAL_33 = 0,
        INITVAL_34 = 0, INITVAL_35 = 0, INITVAL_36 = 0, INITVAL_37 = 0,
        INITVAL_38 = 0, INITVAL_39 = 0, INITVAL_3A = 0, INITVAL_3B = 0,
        INITVAL_3C = 0, INITVAL_3D = 0, INITVAL_3E = 0, INITVAL_3F = 0
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
        if ((DATA_WIDTH_A != 18 && DATA_WIDTH_A != 9 && DATA_WIDTH_A != 4 && DATA_WIDTH_A != 2 &&
             DATA_WIDTH_A != 1) || DATA_WIDTH_A != DATA_WIDTH_B ||
            REGMODE_A != "OUTREG" || REGMODE_B != "OUTREG" ||
            CSDECODE_A != "0b000" || CSDECODE_B != "0b000" ||
            WRITEMODE_A != "NORMAL" || WRITEMODE_B != "NORMAL" ||
            RESETMODE != "SYNC" || ASYNC_RESET_RELEASE != "SYNC" || GSR != "DISABLED") begin
`ifndef __ICARUS__
            $error("DP16KD is modelled with two ports of 18, 9, 4, 2 or 1 bits and output ",
                   "registers alone");
`endif
            DP16KD_mode_without_model stop ();
        end
    endgenerate

    localparam [64 * 320 - 1:0] INITVAL = {
        INITVAL_3F, INITVAL_3E, INITVAL_3D, INITVAL_3C, INITVAL_3B, INITVAL_3A,
        INITVAL_39, INITVAL_38, INITVAL_37, INITVAL_36, INITVAL_35, INITVAL_34,
        INITVAL_33, INITVAL_32, INITVAL_31, INITVAL_30, INITVAL_2F, INITVAL_2E,
        INITVAL_2D, INITVAL_2C, INITVAL_2B, INITVAL_2A, INITVAL_29, INITVAL_28,
        INITVAL_27, INITVAL_26, INITVAL_25, INITVAL_24, INITVAL_23, INITVAL_22,
        INITVAL_21, INITVAL_20, INITVAL_1F, INITVAL_1E, INITVAL_1D, INITVAL_1C,
        INITVAL_1B, INITVAL_1A, INITVAL_19, INITVAL_18, INITVAL_17, INITVAL_16,
        INITVAL_15, INITVAL_14, INITVAL_13, INITVAL_12, INITVAL_11, INITVAL_10,
        INITVAL_0F, INITVAL_0E, INITVAL_0D, INITVAL_0C, INITVAL_0B, INITVAL_0A,
        INITVAL_09, INITVAL_08, INITVAL_07, INITVAL_06, INITVAL_05, INITVAL_04,
        INITVAL_03, INITVAL_02, INITVAL_01, INITVAL_00
    };
    reg [17:0] rows [0:1023];
    integer n;
    initial
        for (n = 0; n < 1024; n = n + 1)
            rows[n] = INITVAL[20 * n +: 18];

    // The word within a row, by the four address bits below the row's.
    function [17:0] word (input [17:0] row, input [3:0] place);
        reg [8:0] part;
        begin
            part = place[3] ? row[17:9] : row[8:0];
            case (DATA_WIDTH_A)
                18: word = row;
                9: word = {9'd0, part};
                4: word = {14'd0, part[4 * place[2] +: 4]};
                2: word = {16'd0, part[2 * place[2:1] +: 2]};
                default: word = {17'd0, part[place[2:0]]};
            endcase
        end
    endfunction

    reg [17:0] read_a = 18'd0;
    reg [17:0] out_a = 18'd0;
    wire [9:0] row_a = {ADA13, ADA12, ADA11, ADA10, ADA9, ADA8, ADA7, ADA6, ADA5, ADA4};
    wire [17:0] word_a = word(rows[row_a], {ADA3, ADA2, ADA1, ADA0});
    always @(posedge CLKA) begin
        if (CEA)
            read_a <= WEA ? ~word_a : word_a;
        if (OCEA)
            out_a <= read_a;
        if (CEA && WEA && DATA_WIDTH_A == 18) begin
            if (ADA0)
                rows[row_a][8:0] <= {DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
            if (ADA1)
                rows[row_a][17:9] <= {DIA17, DIA16, DIA15, DIA14, DIA13, DIA12, DIA11, DIA10, DIA9};
        end
        if (CEA && WEA && DATA_WIDTH_A == 9) begin
            if (ADA3)
                rows[row_a][17:9] <= {DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
            else
                rows[row_a][8:0] <= {DIA8, DIA7, DIA6, DIA5, DIA4, DIA3, DIA2, DIA1, DIA0};
        end
        if (WEA && DATA_WIDTH_A < 9 || RSTA || CSA2 || CSA1 || CSA0) begin
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
    wire [9:0] row_b = {ADB13, ADB12, ADB11, ADB10, ADB9, ADB8, ADB7, ADB6, ADB5, ADB4};
    wire [17:0] word_b = word(rows[row_b], {ADB3, ADB2, ADB1, ADB0});
    wire collides = CEA && WEA && row_a == row_b && (DATA_WIDTH_A != 9 || ADA3 == ADB3);
    always @(posedge CLKB) begin
        if (CEB)
            read_b <= collides ? ~word_b : word_b;
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
