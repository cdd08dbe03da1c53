-- step: beside writers
DROP INDEX CONCURRENTLY IF EXISTS article_texts_terms;

-- step
DROP FUNCTION embedq_asked, embedq_terms, embedq_words_of, embedq_language, embedq_neighbours, embedq_wholes, embedq_apart, embedq_unaccented;
