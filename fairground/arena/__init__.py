"""Ratings from battles: pure functions of values, from votes to a leaderboard with intervals."""
