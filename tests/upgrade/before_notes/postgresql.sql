SET statement_timeout = 0;
SET lock_timeout = 0;
SET idle_in_transaction_session_timeout = 0;
SET client_encoding = 'UTF8';
SET standard_conforming_strings = on;
SELECT pg_catalog.set_config('search_path', '', false);
SET check_function_bodies = false;
SET xmloption = content;
SET client_min_messages = warning;
SET row_security = off;
SET default_tablespace = '';
SET default_table_access_method = heap;
CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.attempts (
    mark bigint NOT NULL,
    seq bigint NOT NULL,
    at double precision NOT NULL,
    digest bigint NOT NULL,
    cell integer NOT NULL,
    delivered integer NOT NULL,
    failed integer NOT NULL,
    deferred integer NOT NULL,
    attempts smallint NOT NULL,
    post_id text NOT NULL COLLATE pg_catalog."C",
    group_key text NOT NULL COLLATE pg_catalog."C",
    content text NOT NULL
);
CREATE TABLE public.changes (
    seq bigint NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    at double precision NOT NULL
);
CREATE TABLE public.claims (
    post_id text NOT NULL COLLATE pg_catalog."C",
    cell integer NOT NULL,
    hop text NOT NULL COLLATE pg_catalog."C",
    owner text NOT NULL COLLATE pg_catalog."C",
    until double precision NOT NULL
);
CREATE TABLE public.directory_state (
    id integer NOT NULL,
    seq bigint NOT NULL,
    floor bigint NOT NULL,
    epoch text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.domains (
    name text NOT NULL COLLATE pg_catalog."C",
    postmaster text NOT NULL COLLATE pg_catalog."C",
    disabled boolean NOT NULL
);
CREATE TABLE public.fingerprints (
    fingerprint text NOT NULL COLLATE pg_catalog."C",
    post_id text NOT NULL COLLATE pg_catalog."C",
    at double precision NOT NULL
);
CREATE TABLE public.groups (
    id bigint NOT NULL,
    address text NOT NULL COLLATE pg_catalog."C",
    domain text NOT NULL COLLATE pg_catalog."C",
    settings text NOT NULL COLLATE pg_catalog."C",
    members integer NOT NULL,
    search text NOT NULL COLLATE pg_catalog."C"
);
CREATE SEQUENCE public.groups_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.groups_id_seq OWNED BY public.groups.id;
CREATE TABLE public.members (
    group_id bigint NOT NULL,
    key text NOT NULL COLLATE pg_catalog."C",
    slot integer NOT NULL,
    address text NOT NULL COLLATE pg_catalog."C",
    name text NOT NULL COLLATE pg_catalog."C",
    search text NOT NULL COLLATE pg_catalog."C",
    paused boolean NOT NULL,
    own_copies boolean NOT NULL,
    bounce text NOT NULL COLLATE pg_catalog."C",
    group_key text COLLATE pg_catalog."C"
);
CREATE TABLE public.parked (
    id bigint NOT NULL,
    tries integer NOT NULL,
    at double precision NOT NULL,
    queue text NOT NULL,
    reason text NOT NULL,
    payload bytea NOT NULL,
    mark text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.parked_bodies (
    parked_id bigint NOT NULL,
    body_key text NOT NULL COLLATE pg_catalog."C"
);
CREATE SEQUENCE public.parked_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1;
ALTER SEQUENCE public.parked_id_seq OWNED BY public.parked.id;
CREATE TABLE public.people (
    hash bigint NOT NULL,
    post_id text NOT NULL COLLATE pg_catalog."C"
);
CREATE TABLE public.post_groups (
    post_id text NOT NULL COLLATE pg_catalog."C",
    group_key text NOT NULL COLLATE pg_catalog."C",
    "position" integer NOT NULL,
    verdict text NOT NULL,
    token text NOT NULL COLLATE pg_catalog."C",
    thread_author text NOT NULL,
    detail text NOT NULL
);
CREATE TABLE public.posts (
    id text NOT NULL COLLATE pg_catalog."C",
    accepted_at double precision NOT NULL,
    size bigint NOT NULL,
    body_size bigint,
    cells integer NOT NULL,
    slices integer NOT NULL,
    mail_from text NOT NULL,
    author text NOT NULL,
    message_id text NOT NULL,
    message_key text NOT NULL COLLATE pg_catalog."C",
    subject text NOT NULL,
    ip text NOT NULL,
    envid text,
    ret text,
    parent text,
    body_key text COLLATE pg_catalog."C",
    body_sha256 text,
    graph text
);
CREATE TABLE public.refusal_counts (
    group_key text NOT NULL COLLATE pg_catalog."C",
    day text NOT NULL COLLATE pg_catalog."C",
    refused bigint NOT NULL
);
CREATE TABLE public.refusals (
    digest text NOT NULL COLLATE pg_catalog."C",
    at double precision NOT NULL,
    code smallint NOT NULL,
    group_key text NOT NULL COLLATE pg_catalog."C",
    mail_from text NOT NULL,
    status text NOT NULL,
    reply text NOT NULL,
    ip text NOT NULL
);
CREATE TABLE public.shares (
    mark bigint NOT NULL,
    seq bigint NOT NULL,
    at double precision NOT NULL,
    digest bigint NOT NULL,
    number integer NOT NULL,
    parts integer NOT NULL,
    announced integer NOT NULL,
    queued integer NOT NULL,
    suppressed integer NOT NULL,
    post_id text NOT NULL COLLATE pg_catalog."C",
    group_key text NOT NULL COLLATE pg_catalog."C",
    signature text,
    content text NOT NULL
);
ALTER TABLE ONLY public.groups ALTER COLUMN id SET DEFAULT nextval('public.groups_id_seq'::regclass);
ALTER TABLE ONLY public.parked ALTER COLUMN id SET DEFAULT nextval('public.parked_id_seq'::regclass);
INSERT INTO public.alembic_version VALUES
	('0003');
INSERT INTO public.attempts VALUES
	(1661199508569267196, 1795465283515762974, 1795465283.5154848, 3111097754662493753, 0, 3, 0, 0, 1, '01m85141vqf0hbg6mbwdfqxg59', 'team@example.test', '[[2,250,"2.0.0","taken","127.0.0.1:17400",1795465283.5154848,null,["ana@example.org","boris@example.org","chris@example.org"]]]'),
	(7702787231842994018, 1795465287090790551, 1795465287.0903842, 6648192872964179794, 0, 1, 0, 1, 1, '01m85145a0z38k7ckkwces2vbz', 'mixed@example.test', '[[1,450,"4.7.1","greylisted","127.0.0.1:17400",1795465287.0903842,1795468887.0903842,["450-1_elena@example.org"]],[2,250,"2.0.0","taken","127.0.0.1:17400",1795465287.0903842,null,["dora@example.org"]]]');
INSERT INTO public.changes VALUES
	(2, 'domain:example.test', 1795465244.1133351),
	(2, 'group:team@example.test', 1795465244.1133351),
	(3, 'group:mixed@example.test', 1795465252.363908),
	(4, 'group:office@example.test', 1795465263.962487),
	(5, 'group:office@example.test', 1795465271.1784875),
	(6, 'group:everybody@example.test', 1795465274.9735606),
	(7, 'group:everybody@example.test', 1795465280.8015623);
INSERT INTO public.directory_state VALUES
	(1, 7, 1, '7ab87a718c073a6861f952fe710d5a33');
INSERT INTO public.domains VALUES
	('example.test', '', false);
INSERT INTO public.fingerprints VALUES
	('24670503c696f170c7feb9e9ca38cdc9101b6c87c011914a9cb133cd5daa5659', '01m85141vqf0hbg6mbwdfqxg59', 1795465283.447538),
	('0400d87a3c96aead08ef9dfe048d713f6ace769d545f4dd102bdf7a5af49eb8d', '01m85145a0z38k7ckkwces2vbz', 1795465286.9760578),
	('9d88785bad66efb0e6fa6364e4c57fad064043f86cc79bea974f85a3dcb1e940', '01m8514yn7jg0hwd3s6y9g52zw', 1795465312.935767);
INSERT INTO public.groups VALUES
	(1, 'team@example.test', 'example.test', '{"reply_to_group":true,"expand_groups":true,"remove_author":true,"disabled":false,"report_delivery":false,"reject_automatic":true,"remove_to_cc":true,"disable_signals":false,"title":"","description":"","owners":[],"who_can_post":"anyone","nest_from":[],"max_size":0,"subject_prefix":"","envelope":"list","thread_author":true,"verp":false}', 3, 'team@example.test '),
	(2, 'mixed@example.test', 'example.test', '{"reply_to_group":true,"expand_groups":true,"remove_author":true,"disabled":false,"report_delivery":false,"reject_automatic":true,"remove_to_cc":true,"disable_signals":false,"title":"","description":"","owners":[],"who_can_post":"anyone","nest_from":[],"max_size":0,"subject_prefix":"","envelope":"list","thread_author":true,"verp":false}', 2, 'mixed@example.test '),
	(3, 'office@example.test', 'example.test', '{"reply_to_group":true,"expand_groups":true,"remove_author":true,"disabled":false,"report_delivery":false,"reject_automatic":true,"remove_to_cc":true,"disable_signals":false,"title":"","description":"","owners":[],"who_can_post":"anyone","nest_from":[],"max_size":0,"subject_prefix":"","envelope":"list","thread_author":true,"verp":false}', 2, 'office@example.test '),
	(4, 'everybody@example.test', 'example.test', '{"reply_to_group":true,"expand_groups":true,"remove_author":true,"disabled":false,"report_delivery":false,"reject_automatic":true,"remove_to_cc":true,"disable_signals":false,"title":"","description":"","owners":[],"who_can_post":"anyone","nest_from":[],"max_size":0,"subject_prefix":"","envelope":"list","thread_author":true,"verp":false}', 250, 'everybody@example.test ');
INSERT INTO public.members VALUES
	(1, 'ana@example.org', 1416326140, 'ana@example.org', '', '', false, false, 'ok', NULL),
	(1, 'boris@example.org', 783909012, 'boris@example.org', '', '', false, false, 'ok', NULL),
	(1, 'chris@example.org', 1714869851, 'chris@example.org', '', '', false, false, 'ok', NULL),
	(2, 'dora@example.org', 2041387050, 'dora@example.org', '', '', false, false, 'ok', NULL),
	(2, '450-1_elena@example.org', 441727410, '450-1_elena@example.org', '', '', false, false, 'ok', NULL),
	(3, 'fani@example.org', 306928441, 'fani@example.org', '', '', false, false, 'ok', NULL),
	(3, 'team@example.test', 1124213417, 'team@example.test', '', '', false, false, 'ok', 'team@example.test'),
	(4, 'p186@example.org', 5726146, 'p186@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p185@example.org', 13329990, 'p185@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p25@example.org', 33847182, 'p25@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p202@example.org', 47718574, 'p202@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p130@example.org', 56343578, 'p130@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p90@example.org', 60912515, 'p90@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p209@example.org', 66160129, 'p209@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p173@example.org', 73886939, 'p173@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p65@example.org', 81020774, 'p65@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p240@example.org', 81899844, 'p240@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p204@example.org', 83030523, 'p204@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p219@example.org', 100872148, 'p219@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p15@example.org', 112745378, 'p15@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p193@example.org', 122560257, 'p193@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p78@example.org', 123128535, 'p78@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p232@example.org', 125193459, 'p232@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p207@example.org', 128354676, 'p207@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p7@example.org', 132126594, 'p7@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p199@example.org', 137408839, 'p199@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p110@example.org', 149617725, 'p110@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p77@example.org', 165590068, 'p77@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p203@example.org', 174741112, 'p203@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p124@example.org', 176383040, 'p124@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p103@example.org', 190778866, 'p103@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p41@example.org', 201930867, 'p41@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p189@example.org', 202949480, 'p189@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p34@example.org', 204722792, 'p34@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p108@example.org', 208587202, 'p108@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p239@example.org', 217731920, 'p239@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p242@example.org', 219709928, 'p242@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p183@example.org', 220962007, 'p183@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p153@example.org', 227951005, 'p153@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p177@example.org', 230229782, 'p177@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p2@example.org', 237246515, 'p2@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p97@example.org', 241803357, 'p97@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p118@example.org', 254686123, 'p118@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p59@example.org', 275965893, 'p59@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p159@example.org', 286968370, 'p159@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p166@example.org', 288036268, 'p166@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p142@example.org', 288214845, 'p142@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p125@example.org', 311338086, 'p125@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p109@example.org', 315691274, 'p109@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p187@example.org', 317462488, 'p187@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p116@example.org', 337606392, 'p116@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p238@example.org', 337704033, 'p238@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p221@example.org', 339055837, 'p221@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p184@example.org', 345936759, 'p184@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p86@example.org', 349571152, 'p86@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p14@example.org', 356747387, 'p14@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p164@example.org', 363005221, 'p164@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p83@example.org', 382227201, 'p83@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p36@example.org', 398732233, 'p36@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p75@example.org', 400072588, 'p75@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p168@example.org', 408150785, 'p168@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p38@example.org', 409908712, 'p38@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p135@example.org', 417901631, 'p135@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p48@example.org', 440485538, 'p48@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p27@example.org', 463843386, 'p27@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p233@example.org', 480406147, 'p233@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p121@example.org', 488192823, 'p121@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p181@example.org', 489299652, 'p181@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p12@example.org', 501832426, 'p12@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p222@example.org', 503939613, 'p222@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p192@example.org', 529510482, 'p192@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p61@example.org', 569994154, 'p61@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p200@example.org', 572748112, 'p200@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p190@example.org', 574167732, 'p190@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p49@example.org', 577051675, 'p49@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p82@example.org', 610691889, 'p82@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p149@example.org', 612146610, 'p149@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p92@example.org', 633384914, 'p92@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p138@example.org', 635598596, 'p138@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p227@example.org', 637031145, 'p227@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p18@example.org', 659747368, 'p18@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p131@example.org', 665825978, 'p131@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p220@example.org', 681438649, 'p220@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p102@example.org', 683456100, 'p102@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p228@example.org', 695366642, 'p228@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p114@example.org', 711923511, 'p114@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p218@example.org', 724653574, 'p218@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p249@example.org', 731755419, 'p249@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p0@example.org', 736705520, 'p0@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p21@example.org', 746020949, 'p21@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p71@example.org', 748809524, 'p71@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p87@example.org', 772464887, 'p87@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p9@example.org', 775903931, 'p9@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p117@example.org', 786227248, 'p117@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p248@example.org', 793828958, 'p248@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p17@example.org', 817990268, 'p17@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p211@example.org', 835670984, 'p211@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p157@example.org', 838803975, 'p157@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p80@example.org', 846193629, 'p80@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p91@example.org', 864216734, 'p91@example.org', '', '', false, false, 'ok', NULL);
INSERT INTO public.members VALUES
	(4, 'p174@example.org', 877844244, 'p174@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p112@example.org', 886998544, 'p112@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p139@example.org', 917334989, 'p139@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p99@example.org', 924771153, 'p99@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p128@example.org', 925501290, 'p128@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p69@example.org', 943174916, 'p69@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p150@example.org', 948703547, 'p150@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p126@example.org', 955666645, 'p126@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p127@example.org', 964227133, 'p127@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p237@example.org', 966413986, 'p237@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p235@example.org', 969742042, 'p235@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p40@example.org', 976001163, 'p40@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p231@example.org', 978061799, 'p231@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p206@example.org', 999144504, 'p206@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p161@example.org', 1002600378, 'p161@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p84@example.org', 1010904098, 'p84@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p16@example.org', 1013783078, 'p16@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p236@example.org', 1017323321, 'p236@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p63@example.org', 1031995886, 'p63@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p45@example.org', 1032952678, 'p45@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p243@example.org', 1033821763, 'p243@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p33@example.org', 1039496626, 'p33@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p136@example.org', 1039878099, 'p136@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p64@example.org', 1059548545, 'p64@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p214@example.org', 1068029928, 'p214@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p23@example.org', 1090762367, 'p23@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p198@example.org', 1090949652, 'p198@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p43@example.org', 1095874629, 'p43@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p30@example.org', 1100783536, 'p30@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p70@example.org', 1100839978, 'p70@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p188@example.org', 1105673519, 'p188@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p62@example.org', 1122565352, 'p62@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p245@example.org', 1126448474, 'p245@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p119@example.org', 1128681020, 'p119@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p53@example.org', 1137681461, 'p53@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p44@example.org', 1139462085, 'p44@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p72@example.org', 1163518795, 'p72@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p152@example.org', 1182576693, 'p152@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p169@example.org', 1185871411, 'p169@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p106@example.org', 1200361860, 'p106@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p29@example.org', 1208636849, 'p29@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p35@example.org', 1209492065, 'p35@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p146@example.org', 1216655556, 'p146@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p32@example.org', 1219460622, 'p32@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p162@example.org', 1222844014, 'p162@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p229@example.org', 1227511666, 'p229@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p212@example.org', 1231205861, 'p212@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p224@example.org', 1241528369, 'p224@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p19@example.org', 1249300402, 'p19@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p170@example.org', 1259646878, 'p170@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p158@example.org', 1265084855, 'p158@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p115@example.org', 1270928364, 'p115@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p191@example.org', 1281514146, 'p191@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p37@example.org', 1282058665, 'p37@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p88@example.org', 1284213758, 'p88@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p182@example.org', 1288878670, 'p182@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p213@example.org', 1291436105, 'p213@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p42@example.org', 1317640797, 'p42@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p151@example.org', 1325937287, 'p151@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p6@example.org', 1336224347, 'p6@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p144@example.org', 1358039672, 'p144@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p96@example.org', 1362478643, 'p96@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p194@example.org', 1377714159, 'p194@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p140@example.org', 1407612121, 'p140@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p73@example.org', 1421055065, 'p73@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p105@example.org', 1427502855, 'p105@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p113@example.org', 1436794796, 'p113@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p58@example.org', 1443381811, 'p58@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p143@example.org', 1447565194, 'p143@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p208@example.org', 1449103791, 'p208@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p201@example.org', 1449185711, 'p201@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p176@example.org', 1450240415, 'p176@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p95@example.org', 1455463885, 'p95@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p13@example.org', 1460514959, 'p13@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p3@example.org', 1463991934, 'p3@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p8@example.org', 1470871379, 'p8@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p226@example.org', 1472797696, 'p226@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p216@example.org', 1490279038, 'p216@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p175@example.org', 1493070635, 'p175@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p31@example.org', 1493237164, 'p31@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p22@example.org', 1513051912, 'p22@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p101@example.org', 1513488286, 'p101@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p54@example.org', 1513625841, 'p54@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p68@example.org', 1521184833, 'p68@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p107@example.org', 1528431361, 'p107@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p79@example.org', 1530272744, 'p79@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p160@example.org', 1532646170, 'p160@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p147@example.org', 1548227401, 'p147@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p11@example.org', 1548337527, 'p11@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p56@example.org', 1567192692, 'p56@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p180@example.org', 1575414884, 'p180@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p122@example.org', 1578370298, 'p122@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p120@example.org', 1581806644, 'p120@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p197@example.org', 1585119475, 'p197@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p137@example.org', 1585837272, 'p137@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p148@example.org', 1587900408, 'p148@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p179@example.org', 1592904668, 'p179@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p154@example.org', 1592952491, 'p154@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p4@example.org', 1626500446, 'p4@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p163@example.org', 1627048668, 'p163@example.org', '', '', false, false, 'ok', NULL);
INSERT INTO public.members VALUES
	(4, 'p167@example.org', 1627712907, 'p167@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p145@example.org', 1628395828, 'p145@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p247@example.org', 1631552567, 'p247@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p60@example.org', 1643130711, 'p60@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p98@example.org', 1647251077, 'p98@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p24@example.org', 1672127262, 'p24@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p210@example.org', 1678310868, 'p210@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p132@example.org', 1688361173, 'p132@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p67@example.org', 1704914890, 'p67@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p205@example.org', 1710542376, 'p205@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p46@example.org', 1716516398, 'p46@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p57@example.org', 1729029685, 'p57@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p223@example.org', 1730960882, 'p223@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p141@example.org', 1732532912, 'p141@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p246@example.org', 1733521247, 'p246@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p28@example.org', 1739454207, 'p28@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p26@example.org', 1756292727, 'p26@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p225@example.org', 1780730179, 'p225@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p52@example.org', 1782612395, 'p52@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p230@example.org', 1788398193, 'p230@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p171@example.org', 1809663074, 'p171@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p234@example.org', 1842214929, 'p234@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p196@example.org', 1848267924, 'p196@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p94@example.org', 1850997197, 'p94@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p129@example.org', 1864442698, 'p129@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p178@example.org', 1869943916, 'p178@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p100@example.org', 1871392805, 'p100@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p156@example.org', 1878196840, 'p156@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p10@example.org', 1893023647, 'p10@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p39@example.org', 1901281196, 'p39@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p51@example.org', 1937361994, 'p51@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p66@example.org', 1941064626, 'p66@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p89@example.org', 1955982376, 'p89@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p155@example.org', 1971350535, 'p155@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p104@example.org', 1976055578, 'p104@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p74@example.org', 1977702217, 'p74@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p217@example.org', 1984587858, 'p217@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p5@example.org', 1985727910, 'p5@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p195@example.org', 1996475048, 'p195@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p55@example.org', 2005748146, 'p55@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p133@example.org', 2017552894, 'p133@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p111@example.org', 2026382856, 'p111@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p93@example.org', 2040646498, 'p93@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p85@example.org', 2050529638, 'p85@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p76@example.org', 2053064614, 'p76@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p165@example.org', 2063165012, 'p165@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p81@example.org', 2069189909, 'p81@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p47@example.org', 2094066694, 'p47@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p1@example.org', 2104339084, 'p1@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p123@example.org', 2107438287, 'p123@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p215@example.org', 2110228087, 'p215@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p20@example.org', 2118126084, 'p20@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p172@example.org', 2124632659, 'p172@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p244@example.org', 2133466765, 'p244@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p134@example.org', 2134506657, 'p134@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p50@example.org', 2142360931, 'p50@example.org', '', '', false, false, 'ok', NULL),
	(4, 'p241@example.org', 2144562942, 'p241@example.org', '', '', false, false, 'ok', NULL);
INSERT INTO public.people VALUES
	(1463203292276962037, '01m85141vqf0hbg6mbwdfqxg59'),
	(4153739089200113345, '01m85141vqf0hbg6mbwdfqxg59'),
	(6717527410040194179, '01m85141vqf0hbg6mbwdfqxg59'),
	(6648192872964179794, '01m85145a0z38k7ckkwces2vbz'),
	(8230742675714064121, '01m85145a0z38k7ckkwces2vbz');
INSERT INTO public.post_groups VALUES
	('01m85141vqf0hbg6mbwdfqxg59', 'team@example.test', 0, 'open', 'dnrilb5mk3gq', '', '{"recipient":"team@example.test","fingerprint":"JGcFA8aW8XDH/rnpyjjNyRAbbIfAEZFKnLEzzV2qVlk="}'),
	('01m85145a0z38k7ckkwces2vbz', 'mixed@example.test', 0, 'open', '5ktftbjyugfa', '', '{"recipient":"mixed@example.test","fingerprint":"BADYejyWrq0I753+BI1xP2rOdp1UX03RAr33pa9J640="}'),
	('01m8514yn7jg0hwd3s6y9g52zw', 'everybody@example.test', 0, 'open', '3fe3ss3mknwq', '', '{"recipient":"everybody@example.test","fingerprint":"nYh4W61m77Dm+mNk5MV/rQZAQ/hsx5vql0+Fo9yx6UA="}');
INSERT INTO public.posts VALUES
	('01m85141vqf0hbg6mbwdfqxg59', 1795465283.447538, 323, NULL, 1, 1, 'visitor@example.net', 'visitor@example.net', '<1.139762933820288.139762883745712@client.example.net>', '1.139762933820288.139762883745712@client.example.net', 'A test 1', '127.0.0.1', NULL, NULL, NULL, NULL, NULL, 'kZSxdGVhbUBleGFtcGxlLnRlc3SRkrF0ZWFtQGV4YW1wbGUudGVzdP+QAw=='),
	('01m85145a0z38k7ckkwces2vbz', 1795465286.9760578, 324, NULL, 1, 1, 'visitor@example.net', 'visitor@example.net', '<2.139762933820288.139762877329664@client.example.net>', '2.139762933820288.139762877329664@client.example.net', 'A test 2', '127.0.0.1', NULL, NULL, NULL, NULL, NULL, 'kZSybWl4ZWRAZXhhbXBsZS50ZXN0kZKybWl4ZWRAZXhhbXBsZS50ZXN0/5AC'),
	('01m8514yn7jg0hwd3s6y9g52zw', 1795465312.935767, 328, NULL, 15, 3, 'visitor@example.net', 'visitor@example.net', '<3.139762933820288.139762877328176@client.example.net>', '3.139762933820288.139762877328176@client.example.net', 'A test 3', '127.0.0.1', NULL, NULL, NULL, NULL, NULL, 'kZS2ZXZlcnlib2R5QGV4YW1wbGUudGVzdJGStmV2ZXJ5Ym9keUBleGFtcGxlLnRlc3T/kMz6');
INSERT INTO public.shares VALUES
	(38689990792796742, 1795465283507542110, 1795465283.5034058, 3111097754662493753, 0, 1, 3, 3, 0, '01m85141vqf0hbg6mbwdfqxg59', 'team@example.test', NULL, '[[["/",["ana@example.org","boris@example.org","chris@example.org"]]],[]]'),
	(4380652557153744056, 1795465287085776612, 1795465287.083321, 5655563511823468107, 0, 1, 2, 2, 0, '01m85145a0z38k7ckkwces2vbz', 'mixed@example.test', NULL, '[[["/",["450-1_elena@example.org","dora@example.org"]]],[]]');
SELECT pg_catalog.setval('public.groups_id_seq', 4, true);
SELECT pg_catalog.setval('public.parked_id_seq', 1, false);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.attempts
    ADD CONSTRAINT pk_attempts PRIMARY KEY (post_id, cell, mark);
ALTER TABLE ONLY public.changes
    ADD CONSTRAINT pk_changes PRIMARY KEY (seq, key);
ALTER TABLE ONLY public.claims
    ADD CONSTRAINT pk_claims PRIMARY KEY (post_id, cell, hop);
ALTER TABLE ONLY public.directory_state
    ADD CONSTRAINT pk_directory_state PRIMARY KEY (id);
ALTER TABLE ONLY public.domains
    ADD CONSTRAINT pk_domains PRIMARY KEY (name);
ALTER TABLE ONLY public.fingerprints
    ADD CONSTRAINT pk_fingerprints PRIMARY KEY (fingerprint);
ALTER TABLE ONLY public.groups
    ADD CONSTRAINT pk_groups PRIMARY KEY (id);
ALTER TABLE ONLY public.members
    ADD CONSTRAINT pk_members PRIMARY KEY (group_id, key);
ALTER TABLE ONLY public.parked
    ADD CONSTRAINT pk_parked PRIMARY KEY (id);
ALTER TABLE ONLY public.parked_bodies
    ADD CONSTRAINT pk_parked_bodies PRIMARY KEY (parked_id, body_key);
ALTER TABLE ONLY public.people
    ADD CONSTRAINT pk_people PRIMARY KEY (hash, post_id);
ALTER TABLE ONLY public.post_groups
    ADD CONSTRAINT pk_post_groups PRIMARY KEY (post_id, group_key);
ALTER TABLE ONLY public.posts
    ADD CONSTRAINT pk_posts PRIMARY KEY (id);
ALTER TABLE ONLY public.refusal_counts
    ADD CONSTRAINT pk_refusal_counts PRIMARY KEY (group_key, day);
ALTER TABLE ONLY public.refusals
    ADD CONSTRAINT pk_refusals PRIMARY KEY (digest);
ALTER TABLE ONLY public.shares
    ADD CONSTRAINT pk_shares PRIMARY KEY (post_id, group_key, number, mark);
ALTER TABLE ONLY public.groups
    ADD CONSTRAINT uq_groups_address UNIQUE (address);
ALTER TABLE ONLY public.parked
    ADD CONSTRAINT uq_parked_mark UNIQUE (mark);
CREATE INDEX ix_fingerprints_at ON public.fingerprints USING btree (at);
CREATE INDEX ix_groups_domain_address ON public.groups USING btree (domain, address);
CREATE INDEX ix_members_group_id_slot_key ON public.members USING btree (group_id, slot, key);
CREATE INDEX ix_members_group_key ON public.members USING btree (group_key, group_id) WHERE (group_key IS NOT NULL);
CREATE INDEX ix_members_key ON public.members USING btree (key);
CREATE INDEX ix_parked_bodies_body_key ON public.parked_bodies USING btree (body_key);
CREATE INDEX ix_post_groups_group_key_post_id ON public.post_groups USING btree (group_key, post_id);
CREATE INDEX ix_post_groups_token ON public.post_groups USING btree (token) WHERE (token <> ''::text);
CREATE INDEX ix_posts_body_key ON public.posts USING btree (body_key) WHERE (body_key IS NOT NULL);
CREATE INDEX ix_posts_message_key ON public.posts USING btree (message_key);
CREATE INDEX ix_refusals_at ON public.refusals USING btree (at);
CREATE INDEX ix_refusals_group_key_at ON public.refusals USING btree (group_key, at);
CREATE INDEX ix_shares_big ON public.shares USING btree (post_id) WHERE (signature IS NOT NULL);
ALTER TABLE ONLY public.groups
    ADD CONSTRAINT fk_groups_domain FOREIGN KEY (domain) REFERENCES public.domains(name);
ALTER TABLE ONLY public.members
    ADD CONSTRAINT fk_members_group_id FOREIGN KEY (group_id) REFERENCES public.groups(id);
