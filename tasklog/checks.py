"""System checks: an installation that is half done is named at start-up."""
