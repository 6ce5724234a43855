"""Many runs for one question: what is varied, what is run, and the tables that come of it."""
