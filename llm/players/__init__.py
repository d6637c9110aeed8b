"""Who answers prompts: models, endpoints and files of responses, all asked in the same way."""
