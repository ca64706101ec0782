"""What the service does in a second, and what it costs: `python -m bench` on a real installation on this machine."""
