"""`horo import`: groups from where they were before. A reader says what it found, which is compared with what is here, shown, and applied."""
