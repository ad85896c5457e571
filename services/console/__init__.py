"""The console: what other systems, and later people in a browser, ask of Horo over HTTP."""
