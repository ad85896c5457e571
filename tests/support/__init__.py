"""What tests stand on: real servers (as containers, or as binaries on loopback), real processes, free ports."""
