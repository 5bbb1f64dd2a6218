"""The public test kit (extra `testing`): strategies, a contract per port, the gate's machine."""
