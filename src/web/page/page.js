// The owner's page.
