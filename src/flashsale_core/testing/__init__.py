"""The public test kit (extra `testing`): strategies, a contract class per port, the gate's machine."""
