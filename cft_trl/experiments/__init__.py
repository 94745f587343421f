"""Experiments that anyone can repeat: arms of a grid, trained on equal budgets, tested strictly, compared in pairs."""
