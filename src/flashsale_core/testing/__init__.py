"""The public test kit (extra `testing`): strategies, one contract class per port, the gate's machine."""
