-- Ranking by words: each article in the stems of its language, identifiers as a whole and in parts, letters without their accents, and
-- pairs of neighbours where a script has no spaces (docs/why/search.rst). The functions call no function of another schema than pg_catalog.

-- The index article_texts_words of version 0.1.0 is of other words. It stays while processes of that version may search by it.

-- e with an accent as e: the letters of Latin script without their marks. Unicode's forms exist in UTF8 databases only; elsewhere the text stays.
CREATE FUNCTION embedq_unaccented(said text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN octet_length(said) = length(said) OR current_setting('server_encoding') <> 'UTF8' THEN said
            ELSE normalize(regexp_replace(normalize(said, NFD), '([A-Za-z])[\u0300-\u036f]+', '\1', 'g'), NFC) END;

-- `heapq.nLargest` as "heapq n Largest": parts of identifiers as words.
CREATE FUNCTION embedq_apart(said text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN regexp_replace(regexp_replace(regexp_replace(said,
    '([a-z0-9])([A-Z])', '\1 \2', 'g'), '([A-Z])([A-Z][a-z])', '\1 \2', 'g'), '([A-Za-z0-9])[._/]+(?=[A-Za-z_])|_+', '\1 ', 'g');

-- The same identifiers as a whole, without what joins their parts, and the dotted ones' components too: "heapqnlargest nlargest"; and codes
-- of letters and digits: "xk4711" for XK-4711.
CREATE FUNCTION embedq_wholes(said text) RETURNS text
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN (SELECT string_agg(lower(translate(whole.found[1], '._-', '')), ' ') FROM (
        SELECT found FROM regexp_matches(said, '[A-Za-z0-9_]+(?:\.[A-Za-z_][A-Za-z0-9_]*)+', 'g') AS found
        UNION ALL
        SELECT found FROM regexp_matches(said, '[A-Za-z0-9]+(?:_+[A-Za-z0-9]+)+|[A-Z]*[a-z0-9]+[A-Z][A-Za-z0-9]*', 'g') AS found
        UNION ALL
        SELECT found FROM regexp_matches(said, '[A-Za-z0-9]*[A-Za-z]-?[0-9][A-Za-z0-9]*(?:-[A-Za-z0-9]+)*', 'g') AS found) AS whole);

-- Pairs of neighbours in scripts that write no spaces between words.
CREATE FUNCTION embedq_neighbours(said text) RETURNS tsvector
LANGUAGE sql IMMUTABLE PARALLEL SAFE
RETURN CASE WHEN current_setting('server_encoding') <> 'UTF8' OR octet_length(said) = length(said) THEN ''::tsvector ELSE coalesce((
    SELECT array_to_tsvector(array_agg(DISTINCT substr(run[1], place, 2)))
    FROM regexp_matches(said, '([\u0e00-\u0e7f\u3041-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af]+)', 'g') AS run,
         generate_series(1, greatest(1, length(run[1]) - 1)) AS place), ''::tsvector) END;

-- The language an article names in its metadata (`language` or `lang`: a name or a code), else the one its script or its small words tell, else English.
CREATE FUNCTION embedq_language(named text, said text) RETURNS regconfig
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path FROM CURRENT AS $$
DECLARE
    found regconfig := CASE split_part(lower(named), '-', 1)
        WHEN 'en' THEN 'english' WHEN 'english' THEN 'english' WHEN 'de' THEN 'german' WHEN 'german' THEN 'german'
        WHEN 'fr' THEN 'french' WHEN 'french' THEN 'french' WHEN 'es' THEN 'spanish' WHEN 'spanish' THEN 'spanish'
        WHEN 'it' THEN 'italian' WHEN 'italian' THEN 'italian' WHEN 'pt' THEN 'portuguese' WHEN 'portuguese' THEN 'portuguese'
        WHEN 'nl' THEN 'dutch' WHEN 'dutch' THEN 'dutch' WHEN 'sv' THEN 'swedish' WHEN 'swedish' THEN 'swedish'
        WHEN 'da' THEN 'danish' WHEN 'danish' THEN 'danish' WHEN 'no' THEN 'norwegian' WHEN 'nb' THEN 'norwegian' WHEN 'norwegian' THEN 'norwegian'
        WHEN 'fi' THEN 'finnish' WHEN 'finnish' THEN 'finnish' WHEN 'hu' THEN 'hungarian' WHEN 'hungarian' THEN 'hungarian'
        WHEN 'ro' THEN 'romanian' WHEN 'romanian' THEN 'romanian' WHEN 'ru' THEN 'russian' WHEN 'russian' THEN 'russian'
        WHEN 'tr' THEN 'turkish' WHEN 'turkish' THEN 'turkish'
        WHEN 'zh' THEN 'simple' WHEN 'ja' THEN 'simple' WHEN 'ko' THEN 'simple' WHEN 'th' THEN 'simple' WHEN 'simple' THEN 'simple' END;
    its_words text[];
BEGIN
    IF found IS NOT NULL OR said ~* '\m(the|this|that|with|from)\M' THEN
        RETURN coalesce(found, 'pg_catalog.english');
    END IF;
    IF octet_length(said) > length(said) AND current_setting('server_encoding') = 'UTF8' AND said ~ '[\u0400-\u04ff]{3}' THEN
        RETURN 'pg_catalog.russian';
    END IF;
    its_words := regexp_split_to_array(lower(said), '[^[:alpha:]]+');
    IF cardinality(its_words) >= 8 THEN
        SELECT small.config INTO found
        FROM (VALUES ('pg_catalog.german'::regconfig, '{der,die,und,das,ist,nicht,ein,eine,mit,den,von,sich,auf,im}'::text[]),
                     ('pg_catalog.french', '{le,la,les,et,des,est,une,dans,pour,que,du,pas,sur,qui}'),
                     ('pg_catalog.spanish', '{el,los,las,y,del,que,una,por,con,para,es,se,en,no}'),
                     ('pg_catalog.italian', '{il,gli,di,che,una,per,con,non,della,sono,del,le,si,nel}'),
                     ('pg_catalog.portuguese', '{o,os,as,e,da,do,que,uma,com,para,em,nao,se,dos}'),
                     ('pg_catalog.dutch', '{de,het,een,en,van,niet,dat,op,met,voor,zijn,aan,ook,te}'),
                     ('pg_catalog.swedish', '{och,att,det,som,en,den,av,inte,med,till,har,ett,om,de}')) AS small (config, words),
             LATERAL (SELECT count(DISTINCT word) AS there FROM unnest(its_words) AS word WHERE word = ANY (small.words)) AS counted
        WHERE counted.there >= 3 ORDER BY counted.there DESC, small.config::oid LIMIT 1;
    END IF;
    RETURN coalesce(found, 'pg_catalog.english');
END $$;

CREATE FUNCTION embedq_words_of(language regconfig, said text) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE SET search_path FROM CURRENT AS $$
DECLARE
    plain constant text := embedq_unaccented(said);
    wholes constant text := embedq_wholes(plain);
    words tsvector := to_tsvector(language, embedq_apart(plain));
BEGIN
    IF wholes IS NOT NULL THEN
        words := words || to_tsvector('pg_catalog.simple', wholes);
    END IF;
    IF octet_length(plain) > length(plain) THEN
        words := words || embedq_neighbours(plain);
    END IF;
    RETURN words;
END $$;

-- What an article is found by. Of a very long text only a part: a tsvector holds one megabyte, and an index must never refuse a save.
CREATE FUNCTION embedq_terms(title text, content text, metadata jsonb) RETURNS tsvector
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE COST 2000 SET search_path FROM CURRENT AS $$
DECLARE
    language constant regconfig := embedq_language(coalesce(metadata ->> 'language', metadata ->> 'lang'), left(content, 1000));
BEGIN
    RETURN setweight(embedq_words_of(language, left(title, 1000)), 'A') || embedq_words_of(language, left(content, 40000));
END $$;

-- The words of a question, each with all that stands for it in an index: its stems in every language, the same place giving the same word.
-- `exact`: an identifier or a code as a whole. Words that English leaves out (the, of) are left out; the others' weigh little where they are frequent.
CREATE FUNCTION embedq_asked(question text) RETURNS TABLE (term integer, exact boolean, lexemes text[], query tsquery)
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
    WITH said AS MATERIALIZED (
        SELECT embedq_unaccented(left(question, 2000)) AS text
    ), stems AS (
        SELECT place::integer AS term, found.lexeme
        FROM said, unnest('{english,german,french,spanish,italian,portuguese,dutch,swedish,danish,norwegian,finnish,hungarian,romanian,russian,turkish,simple}'::regconfig[])
             AS language, unnest(to_tsvector(language, embedq_apart(said.text))) AS found, unnest(found.positions) AS place
        WHERE place IN (SELECT unnest(kept.positions) FROM unnest(to_tsvector('pg_catalog.english', embedq_apart(said.text))) AS kept)
    ), others AS (
        SELECT found.lexeme, true AS exact FROM said, unnest(to_tsvector('pg_catalog.simple', coalesce(embedq_wholes(said.text), ''))) AS found
        UNION ALL
        SELECT found.lexeme, false FROM said, unnest(embedq_neighbours(said.text)) AS found
    )
    SELECT every.term, bool_or(every.exact), array_agg(DISTINCT every.lexeme),
           string_agg(DISTINCT '''' || replace(replace(every.lexeme, '\', '\\'), '''', '''''') || '''', '|')::tsquery
    FROM (SELECT stems.term, false AS exact, stems.lexeme FROM stems
          UNION ALL
          SELECT -(row_number() OVER ())::integer, others.exact, others.lexeme FROM others) AS every
    GROUP BY every.term;
END;
