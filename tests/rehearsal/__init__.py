"""The path of someone with real corpora on disk, walked by a program: python -m tests.rehearsal --help."""
