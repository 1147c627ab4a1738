"""A community's books for accountants: journal, balances, statements and e-invoices in the formats that their software reads."""
