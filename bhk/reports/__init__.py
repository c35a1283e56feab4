"""What is told of a compressed model: pages and figures. Not called report, which is the name of `bhk.report`."""
