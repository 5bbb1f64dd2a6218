"""What stands in deploy/ is sound, without a cluster."""
