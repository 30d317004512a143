"""For provider authors: providers without a world, to measure and to test with."""
