"""What the documentation's pages show that is computed: figures and tables."""
