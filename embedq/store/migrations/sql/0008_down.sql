DROP INDEX IF EXISTS article_texts_words;
DROP FUNCTION embedq_asked, embedq_terms, embedq_words_of, embedq_language, embedq_neighbours, embedq_wholes, embedq_apart, embedq_unaccented;
