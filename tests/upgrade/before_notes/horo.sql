PRAGMA user_version = 0;
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0003');
CREATE TABLE attempts (
	mark BIGINT NOT NULL, 
	seq BIGINT NOT NULL, 
	at DOUBLE NOT NULL, 
	digest BIGINT NOT NULL, 
	cell INTEGER NOT NULL, 
	delivered INTEGER NOT NULL, 
	failed INTEGER NOT NULL, 
	"deferred" INTEGER NOT NULL, 
	attempts SMALLINT NOT NULL, 
	post_id TEXT NOT NULL, 
	group_key TEXT NOT NULL, 
	content TEXT NOT NULL, 
	CONSTRAINT pk_attempts PRIMARY KEY (post_id, cell, mark)
);
INSERT INTO "attempts" VALUES(817676579248339637,1795465187624893950,1.79546518762455987929e+09,3111097754662493753,0,3,0,0,1,'01m851148d5xnyqrfantmgg783','team@example.test','[[2,250,"2.0.0","taken","127.0.0.1:30313",1795465187.6245599,null,["ana@example.org","boris@example.org","chris@example.org"]]]');
INSERT INTO "attempts" VALUES(4882829542201844602,1795465188561569728,1.7954651885612335205e+09,6648192872964179794,0,1,0,1,1,'01m8511560pkz6hby9bsgg1h1b','mixed@example.test','[[1,450,"4.7.1","greylisted","127.0.0.1:30313",1795465188.5612335,1795468788.5612335,["450-1_elena@example.org"]],[2,250,"2.0.0","taken","127.0.0.1:30313",1795465188.5612335,null,["dora@example.org"]]]');
CREATE TABLE changes (
	seq BIGINT NOT NULL, 
	"key" TEXT NOT NULL, 
	at FLOAT NOT NULL, 
	CONSTRAINT pk_changes PRIMARY KEY (seq, "key")
);
INSERT INTO "changes" VALUES(2,'domain:example.test',1.79546518145951819423e+09);
INSERT INTO "changes" VALUES(2,'group:team@example.test',1.79546518145951819423e+09);
INSERT INTO "changes" VALUES(3,'group:mixed@example.test',1.79546518260648465159e+09);
INSERT INTO "changes" VALUES(4,'group:office@example.test',1.7954651837772958279e+09);
INSERT INTO "changes" VALUES(5,'group:office@example.test',1.79546518490124678612e+09);
INSERT INTO "changes" VALUES(6,'group:everybody@example.test',1.79546518610429906848e+09);
INSERT INTO "changes" VALUES(7,'group:everybody@example.test',1.79546518721319127084e+09);
CREATE TABLE claims (
	post_id TEXT NOT NULL, 
	cell INTEGER NOT NULL, 
	hop TEXT NOT NULL, 
	owner TEXT NOT NULL, 
	until DOUBLE NOT NULL, 
	CONSTRAINT pk_claims PRIMARY KEY (post_id, cell, hop)
);
CREATE TABLE directory_state (
	id INTEGER NOT NULL, 
	seq BIGINT NOT NULL, 
	floor BIGINT NOT NULL, 
	epoch TEXT NOT NULL, 
	CONSTRAINT pk_directory_state PRIMARY KEY (id)
);
INSERT INTO "directory_state" VALUES(1,7,1,'f1b89a81573fb222a83c3da3f75af78e');
CREATE TABLE domains (
	name TEXT NOT NULL, 
	postmaster TEXT NOT NULL, 
	disabled BOOLEAN NOT NULL, 
	CONSTRAINT pk_domains PRIMARY KEY (name)
);
INSERT INTO "domains" VALUES('example.test','',0);
CREATE TABLE fingerprints (
	fingerprint TEXT NOT NULL, 
	post_id TEXT NOT NULL, 
	at DOUBLE NOT NULL, 
	CONSTRAINT pk_fingerprints PRIMARY KEY (fingerprint)
);
INSERT INTO "fingerprints" VALUES('64b21cd535fe9a2b3f8bf06c394cb32f0811f4e93f11b5552c8415da6d293714','01m851148d5xnyqrfantmgg783',1.79546518759737849238e+09);
INSERT INTO "fingerprints" VALUES('37619dd1f173bac376c60741a1bc963a1c23a81e0569758015183138fff5ffe4','01m8511560pkz6hby9bsgg1h1b',1795465188.54406);
INSERT INTO "fingerprints" VALUES('099263aaa080d08458c1d0e3f533b9cbb13c0295dc02fb62b2eeaba245309233','01m8511g02vphwnkyf7fcs18t8',1.79546519961900353425e+09);
CREATE TABLE groups (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	address TEXT NOT NULL, 
	domain TEXT NOT NULL, 
	settings TEXT NOT NULL, 
	members INTEGER NOT NULL, 
	search TEXT NOT NULL, 
	CONSTRAINT uq_groups_address UNIQUE (address), 
	CONSTRAINT fk_groups_domain FOREIGN KEY(domain) REFERENCES domains (name)
);
INSERT INTO "groups" VALUES(1,'team@example.test','example.test','{"reply_to_group":true,"expand_groups":true,"remove_author":true,"disabled":false,"report_delivery":false,"reject_automatic":true,"remove_to_cc":true,"disable_signals":false,"title":"","description":"","owners":[],"who_can_post":"anyone","nest_from":[],"max_size":0,"subject_prefix":"","envelope":"list","thread_author":true,"verp":false}',3,'team@example.test ');
INSERT INTO "groups" VALUES(2,'mixed@example.test','example.test','{"reply_to_group":true,"expand_groups":true,"remove_author":true,"disabled":false,"report_delivery":false,"reject_automatic":true,"remove_to_cc":true,"disable_signals":false,"title":"","description":"","owners":[],"who_can_post":"anyone","nest_from":[],"max_size":0,"subject_prefix":"","envelope":"list","thread_author":true,"verp":false}',2,'mixed@example.test ');
INSERT INTO "groups" VALUES(3,'office@example.test','example.test','{"reply_to_group":true,"expand_groups":true,"remove_author":true,"disabled":false,"report_delivery":false,"reject_automatic":true,"remove_to_cc":true,"disable_signals":false,"title":"","description":"","owners":[],"who_can_post":"anyone","nest_from":[],"max_size":0,"subject_prefix":"","envelope":"list","thread_author":true,"verp":false}',2,'office@example.test ');
INSERT INTO "groups" VALUES(4,'everybody@example.test','example.test','{"reply_to_group":true,"expand_groups":true,"remove_author":true,"disabled":false,"report_delivery":false,"reject_automatic":true,"remove_to_cc":true,"disable_signals":false,"title":"","description":"","owners":[],"who_can_post":"anyone","nest_from":[],"max_size":0,"subject_prefix":"","envelope":"list","thread_author":true,"verp":false}',250,'everybody@example.test ');
CREATE TABLE members (
	group_id INTEGER NOT NULL, 
	"key" TEXT NOT NULL, 
	slot INTEGER NOT NULL, 
	address TEXT NOT NULL, 
	name TEXT NOT NULL, 
	search TEXT NOT NULL, 
	paused BOOLEAN NOT NULL, 
	own_copies BOOLEAN NOT NULL, 
	bounce TEXT NOT NULL, 
	group_key TEXT, 
	CONSTRAINT pk_members PRIMARY KEY (group_id, "key"), 
	CONSTRAINT fk_members_group_id FOREIGN KEY(group_id) REFERENCES groups (id)
)
 WITHOUT ROWID

;
INSERT INTO "members" VALUES(1,'ana@example.org',1416326140,'ana@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(1,'boris@example.org',783909012,'boris@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(1,'chris@example.org',1714869851,'chris@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(2,'450-1_elena@example.org',441727410,'450-1_elena@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(2,'dora@example.org',2041387050,'dora@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(3,'fani@example.org',306928441,'fani@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(3,'team@example.test',1124213417,'team@example.test','','',0,0,'ok','team@example.test');
INSERT INTO "members" VALUES(4,'p0@example.org',736705520,'p0@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p100@example.org',1871392805,'p100@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p101@example.org',1513488286,'p101@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p102@example.org',683456100,'p102@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p103@example.org',190778866,'p103@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p104@example.org',1976055578,'p104@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p105@example.org',1427502855,'p105@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p106@example.org',1200361860,'p106@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p107@example.org',1528431361,'p107@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p108@example.org',208587202,'p108@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p109@example.org',315691274,'p109@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p10@example.org',1893023647,'p10@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p110@example.org',149617725,'p110@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p111@example.org',2026382856,'p111@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p112@example.org',886998544,'p112@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p113@example.org',1436794796,'p113@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p114@example.org',711923511,'p114@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p115@example.org',1270928364,'p115@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p116@example.org',337606392,'p116@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p117@example.org',786227248,'p117@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p118@example.org',254686123,'p118@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p119@example.org',1128681020,'p119@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p11@example.org',1548337527,'p11@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p120@example.org',1581806644,'p120@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p121@example.org',488192823,'p121@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p122@example.org',1578370298,'p122@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p123@example.org',2107438287,'p123@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p124@example.org',176383040,'p124@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p125@example.org',311338086,'p125@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p126@example.org',955666645,'p126@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p127@example.org',964227133,'p127@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p128@example.org',925501290,'p128@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p129@example.org',1864442698,'p129@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p12@example.org',501832426,'p12@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p130@example.org',56343578,'p130@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p131@example.org',665825978,'p131@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p132@example.org',1688361173,'p132@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p133@example.org',2017552894,'p133@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p134@example.org',2134506657,'p134@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p135@example.org',417901631,'p135@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p136@example.org',1039878099,'p136@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p137@example.org',1585837272,'p137@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p138@example.org',635598596,'p138@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p139@example.org',917334989,'p139@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p13@example.org',1460514959,'p13@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p140@example.org',1407612121,'p140@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p141@example.org',1732532912,'p141@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p142@example.org',288214845,'p142@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p143@example.org',1447565194,'p143@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p144@example.org',1358039672,'p144@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p145@example.org',1628395828,'p145@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p146@example.org',1216655556,'p146@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p147@example.org',1548227401,'p147@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p148@example.org',1587900408,'p148@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p149@example.org',612146610,'p149@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p14@example.org',356747387,'p14@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p150@example.org',948703547,'p150@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p151@example.org',1325937287,'p151@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p152@example.org',1182576693,'p152@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p153@example.org',227951005,'p153@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p154@example.org',1592952491,'p154@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p155@example.org',1971350535,'p155@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p156@example.org',1878196840,'p156@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p157@example.org',838803975,'p157@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p158@example.org',1265084855,'p158@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p159@example.org',286968370,'p159@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p15@example.org',112745378,'p15@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p160@example.org',1532646170,'p160@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p161@example.org',1002600378,'p161@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p162@example.org',1222844014,'p162@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p163@example.org',1627048668,'p163@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p164@example.org',363005221,'p164@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p165@example.org',2063165012,'p165@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p166@example.org',288036268,'p166@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p167@example.org',1627712907,'p167@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p168@example.org',408150785,'p168@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p169@example.org',1185871411,'p169@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p16@example.org',1013783078,'p16@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p170@example.org',1259646878,'p170@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p171@example.org',1809663074,'p171@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p172@example.org',2124632659,'p172@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p173@example.org',73886939,'p173@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p174@example.org',877844244,'p174@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p175@example.org',1493070635,'p175@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p176@example.org',1450240415,'p176@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p177@example.org',230229782,'p177@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p178@example.org',1869943916,'p178@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p179@example.org',1592904668,'p179@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p17@example.org',817990268,'p17@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p180@example.org',1575414884,'p180@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p181@example.org',489299652,'p181@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p182@example.org',1288878670,'p182@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p183@example.org',220962007,'p183@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p184@example.org',345936759,'p184@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p185@example.org',13329990,'p185@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p186@example.org',5726146,'p186@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p187@example.org',317462488,'p187@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p188@example.org',1105673519,'p188@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p189@example.org',202949480,'p189@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p18@example.org',659747368,'p18@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p190@example.org',574167732,'p190@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p191@example.org',1281514146,'p191@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p192@example.org',529510482,'p192@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p193@example.org',122560257,'p193@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p194@example.org',1377714159,'p194@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p195@example.org',1996475048,'p195@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p196@example.org',1848267924,'p196@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p197@example.org',1585119475,'p197@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p198@example.org',1090949652,'p198@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p199@example.org',137408839,'p199@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p19@example.org',1249300402,'p19@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p1@example.org',2104339084,'p1@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p200@example.org',572748112,'p200@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p201@example.org',1449185711,'p201@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p202@example.org',47718574,'p202@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p203@example.org',174741112,'p203@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p204@example.org',83030523,'p204@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p205@example.org',1710542376,'p205@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p206@example.org',999144504,'p206@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p207@example.org',128354676,'p207@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p208@example.org',1449103791,'p208@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p209@example.org',66160129,'p209@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p20@example.org',2118126084,'p20@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p210@example.org',1678310868,'p210@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p211@example.org',835670984,'p211@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p212@example.org',1231205861,'p212@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p213@example.org',1291436105,'p213@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p214@example.org',1068029928,'p214@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p215@example.org',2110228087,'p215@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p216@example.org',1490279038,'p216@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p217@example.org',1984587858,'p217@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p218@example.org',724653574,'p218@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p219@example.org',100872148,'p219@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p21@example.org',746020949,'p21@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p220@example.org',681438649,'p220@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p221@example.org',339055837,'p221@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p222@example.org',503939613,'p222@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p223@example.org',1730960882,'p223@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p224@example.org',1241528369,'p224@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p225@example.org',1780730179,'p225@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p226@example.org',1472797696,'p226@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p227@example.org',637031145,'p227@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p228@example.org',695366642,'p228@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p229@example.org',1227511666,'p229@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p22@example.org',1513051912,'p22@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p230@example.org',1788398193,'p230@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p231@example.org',978061799,'p231@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p232@example.org',125193459,'p232@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p233@example.org',480406147,'p233@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p234@example.org',1842214929,'p234@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p235@example.org',969742042,'p235@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p236@example.org',1017323321,'p236@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p237@example.org',966413986,'p237@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p238@example.org',337704033,'p238@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p239@example.org',217731920,'p239@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p23@example.org',1090762367,'p23@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p240@example.org',81899844,'p240@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p241@example.org',2144562942,'p241@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p242@example.org',219709928,'p242@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p243@example.org',1033821763,'p243@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p244@example.org',2133466765,'p244@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p245@example.org',1126448474,'p245@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p246@example.org',1733521247,'p246@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p247@example.org',1631552567,'p247@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p248@example.org',793828958,'p248@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p249@example.org',731755419,'p249@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p24@example.org',1672127262,'p24@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p25@example.org',33847182,'p25@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p26@example.org',1756292727,'p26@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p27@example.org',463843386,'p27@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p28@example.org',1739454207,'p28@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p29@example.org',1208636849,'p29@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p2@example.org',237246515,'p2@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p30@example.org',1100783536,'p30@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p31@example.org',1493237164,'p31@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p32@example.org',1219460622,'p32@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p33@example.org',1039496626,'p33@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p34@example.org',204722792,'p34@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p35@example.org',1209492065,'p35@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p36@example.org',398732233,'p36@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p37@example.org',1282058665,'p37@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p38@example.org',409908712,'p38@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p39@example.org',1901281196,'p39@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p3@example.org',1463991934,'p3@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p40@example.org',976001163,'p40@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p41@example.org',201930867,'p41@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p42@example.org',1317640797,'p42@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p43@example.org',1095874629,'p43@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p44@example.org',1139462085,'p44@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p45@example.org',1032952678,'p45@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p46@example.org',1716516398,'p46@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p47@example.org',2094066694,'p47@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p48@example.org',440485538,'p48@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p49@example.org',577051675,'p49@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p4@example.org',1626500446,'p4@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p50@example.org',2142360931,'p50@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p51@example.org',1937361994,'p51@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p52@example.org',1782612395,'p52@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p53@example.org',1137681461,'p53@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p54@example.org',1513625841,'p54@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p55@example.org',2005748146,'p55@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p56@example.org',1567192692,'p56@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p57@example.org',1729029685,'p57@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p58@example.org',1443381811,'p58@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p59@example.org',275965893,'p59@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p5@example.org',1985727910,'p5@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p60@example.org',1643130711,'p60@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p61@example.org',569994154,'p61@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p62@example.org',1122565352,'p62@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p63@example.org',1031995886,'p63@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p64@example.org',1059548545,'p64@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p65@example.org',81020774,'p65@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p66@example.org',1941064626,'p66@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p67@example.org',1704914890,'p67@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p68@example.org',1521184833,'p68@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p69@example.org',943174916,'p69@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p6@example.org',1336224347,'p6@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p70@example.org',1100839978,'p70@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p71@example.org',748809524,'p71@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p72@example.org',1163518795,'p72@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p73@example.org',1421055065,'p73@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p74@example.org',1977702217,'p74@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p75@example.org',400072588,'p75@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p76@example.org',2053064614,'p76@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p77@example.org',165590068,'p77@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p78@example.org',123128535,'p78@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p79@example.org',1530272744,'p79@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p7@example.org',132126594,'p7@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p80@example.org',846193629,'p80@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p81@example.org',2069189909,'p81@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p82@example.org',610691889,'p82@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p83@example.org',382227201,'p83@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p84@example.org',1010904098,'p84@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p85@example.org',2050529638,'p85@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p86@example.org',349571152,'p86@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p87@example.org',772464887,'p87@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p88@example.org',1284213758,'p88@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p89@example.org',1955982376,'p89@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p8@example.org',1470871379,'p8@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p90@example.org',60912515,'p90@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p91@example.org',864216734,'p91@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p92@example.org',633384914,'p92@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p93@example.org',2040646498,'p93@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p94@example.org',1850997197,'p94@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p95@example.org',1455463885,'p95@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p96@example.org',1362478643,'p96@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p97@example.org',241803357,'p97@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p98@example.org',1647251077,'p98@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p99@example.org',924771153,'p99@example.org','','',0,0,'ok',NULL);
INSERT INTO "members" VALUES(4,'p9@example.org',775903931,'p9@example.org','','',0,0,'ok',NULL);
CREATE TABLE parked (
	id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, 
	tries INTEGER NOT NULL, 
	at DOUBLE NOT NULL, 
	queue TEXT NOT NULL, 
	reason TEXT NOT NULL, 
	payload BLOB NOT NULL, 
	mark TEXT NOT NULL, 
	CONSTRAINT uq_parked_mark UNIQUE (mark)
);
CREATE TABLE parked_bodies (
	parked_id INTEGER NOT NULL, 
	body_key TEXT NOT NULL, 
	CONSTRAINT pk_parked_bodies PRIMARY KEY (parked_id, body_key)
);
CREATE TABLE people (
	hash BIGINT NOT NULL, 
	post_id TEXT NOT NULL, 
	CONSTRAINT pk_people PRIMARY KEY (hash, post_id)
)
 WITHOUT ROWID

;
INSERT INTO "people" VALUES(1463203292276962037,'01m851148d5xnyqrfantmgg783');
INSERT INTO "people" VALUES(4153739089200113345,'01m851148d5xnyqrfantmgg783');
INSERT INTO "people" VALUES(6648192872964179794,'01m8511560pkz6hby9bsgg1h1b');
INSERT INTO "people" VALUES(6717527410040194179,'01m851148d5xnyqrfantmgg783');
INSERT INTO "people" VALUES(8230742675714064121,'01m8511560pkz6hby9bsgg1h1b');
CREATE TABLE post_groups (
	post_id TEXT NOT NULL, 
	group_key TEXT NOT NULL, 
	position INTEGER NOT NULL, 
	verdict TEXT NOT NULL, 
	token TEXT NOT NULL, 
	thread_author TEXT NOT NULL, 
	detail TEXT NOT NULL, 
	CONSTRAINT pk_post_groups PRIMARY KEY (post_id, group_key)
);
INSERT INTO "post_groups" VALUES('01m851148d5xnyqrfantmgg783','team@example.test',0,'open','xqlyxv3ihvva','','{"recipient":"team@example.test","fingerprint":"ZLIc1TX+mis/i/BsOUyzLwgR9Ok/EbVVLIQV2m0pNxQ="}');
INSERT INTO "post_groups" VALUES('01m8511560pkz6hby9bsgg1h1b','mixed@example.test',0,'open','yggruvlss3ra','','{"recipient":"mixed@example.test","fingerprint":"N2Gd0fFzusN2xgdBobyWOhwjqB4FaXWAFRgxOP/1/+Q="}');
INSERT INTO "post_groups" VALUES('01m8511g02vphwnkyf7fcs18t8','everybody@example.test',0,'open','m7juuh74p6ka','','{"recipient":"everybody@example.test","fingerprint":"CZJjqqCA0IRYwdDj9TO5y7E8ApXcAvtisu6rokUwkjM="}');
CREATE TABLE posts (
	id TEXT NOT NULL, 
	accepted_at DOUBLE NOT NULL, 
	size BIGINT NOT NULL, 
	body_size BIGINT, 
	cells INTEGER NOT NULL, 
	slices INTEGER NOT NULL, 
	mail_from TEXT NOT NULL, 
	author TEXT NOT NULL, 
	message_id TEXT NOT NULL, 
	message_key TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	ip TEXT NOT NULL, 
	envid TEXT, 
	ret TEXT, 
	parent TEXT, 
	body_key TEXT, 
	body_sha256 TEXT, 
	graph TEXT, 
	CONSTRAINT pk_posts PRIMARY KEY (id)
);
INSERT INTO "posts" VALUES('01m851148d5xnyqrfantmgg783',1.79546518759737849238e+09,323,NULL,1,1,'visitor@example.net','visitor@example.net','<1.140192553638784.140192502101616@client.example.net>','1.140192553638784.140192502101616@client.example.net','A test 1','127.0.0.1',NULL,NULL,NULL,NULL,NULL,'kZSxdGVhbUBleGFtcGxlLnRlc3SRkrF0ZWFtQGV4YW1wbGUudGVzdP+QAw==');
INSERT INTO "posts" VALUES('01m8511560pkz6hby9bsgg1h1b',1795465188.54406,324,NULL,1,1,'visitor@example.net','visitor@example.net','<2.140192553638784.140192502793648@client.example.net>','2.140192553638784.140192502793648@client.example.net','A test 2','127.0.0.1',NULL,NULL,NULL,NULL,NULL,'kZSybWl4ZWRAZXhhbXBsZS50ZXN0kZKybWl4ZWRAZXhhbXBsZS50ZXN0/5AC');
INSERT INTO "posts" VALUES('01m8511g02vphwnkyf7fcs18t8',1.79546519961900353425e+09,328,NULL,15,3,'visitor@example.net','visitor@example.net','<3.140192553638784.140192502793696@client.example.net>','3.140192553638784.140192502793696@client.example.net','A test 3','127.0.0.1',NULL,NULL,NULL,NULL,NULL,'kZS2ZXZlcnlib2R5QGV4YW1wbGUudGVzdJGStmV2ZXJ5Ym9keUBleGFtcGxlLnRlc3T/kMz6');
CREATE TABLE refusal_counts (
	group_key TEXT NOT NULL, 
	day TEXT NOT NULL, 
	refused BIGINT NOT NULL, 
	CONSTRAINT pk_refusal_counts PRIMARY KEY (group_key, day)
);
CREATE TABLE refusals (
	digest TEXT NOT NULL, 
	at DOUBLE NOT NULL, 
	code SMALLINT NOT NULL, 
	group_key TEXT NOT NULL, 
	mail_from TEXT NOT NULL, 
	status TEXT NOT NULL, 
	reply TEXT NOT NULL, 
	ip TEXT NOT NULL, 
	CONSTRAINT pk_refusals PRIMARY KEY (digest)
);
CREATE TABLE shares (
	mark BIGINT NOT NULL, 
	seq BIGINT NOT NULL, 
	at DOUBLE NOT NULL, 
	digest BIGINT NOT NULL, 
	number INTEGER NOT NULL, 
	parts INTEGER NOT NULL, 
	announced INTEGER NOT NULL, 
	queued INTEGER NOT NULL, 
	suppressed INTEGER NOT NULL, 
	post_id TEXT NOT NULL, 
	group_key TEXT NOT NULL, 
	signature TEXT, 
	content TEXT NOT NULL, 
	CONSTRAINT pk_shares PRIMARY KEY (post_id, group_key, number, mark)
);
INSERT INTO "shares" VALUES(38689990792796742,1795465187616143186,1.7954651876135525703e+09,3111097754662493753,0,1,3,3,0,'01m851148d5xnyqrfantmgg783','team@example.test',NULL,'[[["/",["ana@example.org","boris@example.org","chris@example.org"]]],[]]');
INSERT INTO "shares" VALUES(4380652557153744056,1795465188559450225,1.79546518855788636214e+09,5655563511823468107,0,1,2,2,0,'01m8511560pkz6hby9bsgg1h1b','mixed@example.test',NULL,'[[["/",["450-1_elena@example.org","dora@example.org"]]],[]]');
CREATE INDEX ix_groups_domain_address ON groups (domain, address);
CREATE INDEX ix_members_group_id_slot_key ON members (group_id, slot, "key");
CREATE INDEX ix_members_key ON members ("key");
CREATE INDEX ix_members_group_key ON members (group_key, group_id) WHERE group_key IS NOT NULL;
CREATE INDEX ix_posts_message_key ON posts (message_key);
CREATE INDEX ix_posts_body_key ON posts (body_key) WHERE body_key IS NOT NULL;
CREATE INDEX ix_post_groups_group_key_post_id ON post_groups (group_key, post_id);
CREATE INDEX ix_post_groups_token ON post_groups (token) WHERE token != '';
CREATE INDEX ix_fingerprints_at ON fingerprints (at);
CREATE INDEX ix_parked_bodies_body_key ON parked_bodies (body_key);
CREATE INDEX ix_refusals_group_key_at ON refusals (group_key, at);
CREATE INDEX ix_refusals_at ON refusals (at);
CREATE INDEX ix_shares_big ON shares (post_id) WHERE signature IS NOT NULL;
DELETE FROM "sqlite_sequence";
INSERT INTO "sqlite_sequence" VALUES('groups',4);
COMMIT;
