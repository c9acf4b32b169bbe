"""Dead letters: records that ended without a document, with the reason why."""
