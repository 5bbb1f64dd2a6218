"""What figures are compared with: the same pools, decoders and servers, without the one thing."""
