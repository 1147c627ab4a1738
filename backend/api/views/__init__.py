"""Read models: frozen values, and the functions that make them from a `Site`. JSON routes and portal pages show the same ones."""
