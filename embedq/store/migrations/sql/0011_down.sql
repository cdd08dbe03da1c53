DROP FUNCTION embedq_create_article(text, text, text, text, text, jsonb, text, text, text, text, text);
