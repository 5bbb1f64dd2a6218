"""What is deployed, checked without a cluster."""
