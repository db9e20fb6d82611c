// A product as the sum of what the bits of a factor select of the other one, for Yosys's `techmap`.
// So an unknown value times 0 is 0, as it is in a circuit, and not unknown.
(* techmap_celltype = "$mul" *)
module multiply(A, B, Y);
  parameter A_SIGNED = 0;
  parameter B_SIGNED = 0;
  parameter A_WIDTH = 1;
  parameter B_WIDTH = 1;
  parameter Y_WIDTH = 1;
  input [A_WIDTH-1:0] A;
  input [B_WIDTH-1:0] B;
  output [Y_WIDTH-1:0] Y;

  wire [Y_WIDTH-1:0] a = {{Y_WIDTH{A_SIGNED && A[A_WIDTH-1]}}, A};
  // One after the other: how far each bit has brought the sum.
  wire [Y_WIDTH*(B_WIDTH+1)-1:0] sums;
  assign sums[Y_WIDTH-1:0] = 0;
  genvar n;
  generate
    for (n = 0; n < B_WIDTH; n = n + 1) begin : bits
      wire [Y_WIDTH-1:0] before = sums[Y_WIDTH*n +: Y_WIDTH];
      wire [Y_WIDTH-1:0] selected = {Y_WIDTH{B[n]}} & (a << n);
      // The sign of two's complement counts negative.
      assign sums[Y_WIDTH*(n+1) +: Y_WIDTH] =
        B_SIGNED && n == B_WIDTH - 1 ? before - selected : before + selected;
    end
  endgenerate
  assign Y = sums[Y_WIDTH*B_WIDTH +: Y_WIDTH];
endmodule
