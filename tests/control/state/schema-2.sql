-- SPDX-License-Identifier: BSD-3-Clause
-- A state file as schema 2 was written by Patchbay 0.1.0, with an object of each kind and a few odd ones.
-- Written once and never changed: test_migration reads it with sqlite3, to have a file of that schema.
PRAGMA application_id = 1346519385;
PRAGMA user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('generation',17);
INSERT INTO "meta" VALUES('instance','e2c1b612-ff44-4c5f-9716-47ab52e58803');
CREATE TABLE object (kind TEXT NOT NULL, network TEXT NOT NULL, name TEXT NOT NULL, uid TEXT NOT NULL, generation INTEGER NOT NULL, body TEXT NOT NULL, PRIMARY KEY (kind, network, name)) WITHOUT ROWID;
INSERT INTO "object" VALUES('network','','default','928d352a-085f-4e0e-9095-b3b6c9ff84b7',0,'{"labels":{}}');
INSERT INTO "object" VALUES('network','','tenant','305f7034-48b3-452a-ad5c-85460cb7e257',12,'{"labels":{"who":"blue"}}');
INSERT INTO "object" VALUES('port','default','fw-in','a870fcd1-38a9-4eb9-8c7c-7a03b185d362',8,'{"vif":"fw-in","vlan":null,"labels":{}}');
INSERT INTO "object" VALUES('port','default','fw-out','0df88273-03f7-4439-ab08-a3f44ed06b24',10,'{"vif":"fw-out","vlan":null,"labels":{}}');
INSERT INTO "object" VALUES('port','default','ids','7bd51204-842e-4219-945f-ca47233d10df',6,'{"vif":"ids","vlan":null,"labels":{}}');
INSERT INTO "object" VALUES('port','default','vm1','a22f2a8a-9272-4947-a9a5-fca3fe0d01c8',2,'{"vif":"vm1","vlan":null,"labels":{}}');
INSERT INTO "object" VALUES('port','default','vm2','8d41c8ca-3b5a-4932-b018-5a95d0024db8',4,'{"vif":"vm2","vlan":null,"labels":{}}');
INSERT INTO "object" VALUES('port','tenant','p1','818ed8ba-d628-48fb-a6cb-860be84a7634',13,'{"vif":"uplink","vlan":7,"labels":{}}');
INSERT INTO "object" VALUES('vif','','fw-in','381a91c8-0e00-4f9c-9d06-b3990fee7b5b',7,'{"kind":"none","owner":null,"labels":{}}');
INSERT INTO "object" VALUES('vif','','fw-out','d90dce7b-a660-4efd-bb40-0f8332598f9d',9,'{"kind":"none","owner":null,"labels":{}}');
INSERT INTO "object" VALUES('vif','','ids','36e66cb9-50ef-4026-9477-122039aeeb98',5,'{"kind":"none","owner":null,"labels":{}}');
INSERT INTO "object" VALUES('vif','','uplink','19e8b6e5-9b13-4fe7-83b7-d7165e2f7112',11,'{"kind":"dev","devargs":"net_null9","owner":"host","labels":{"rack":"a3"}}');
INSERT INTO "object" VALUES('vif','','vm1','5bb4b267-3709-439c-8672-e4132578b93a',1,'{"kind":"none","owner":null,"labels":{}}');
INSERT INTO "object" VALUES('vif','','vm2','2032939a-0558-41fc-834a-0a4ee21fc0b8',3,'{"kind":"none","owner":null,"labels":{}}');
INSERT INTO "object" VALUES('wire','default','w1','cacf1329-c92a-4327-ab11-9bb9eabddd57',15,'{"a":"vm1","b":"vm2","admin":"up","on_full":"drop","stall_ms":250,"labels":{"x":"ü"},"tees":[{"name":"t1","port":"ids","out_port":null,"mode":"tap","direction":"both","on_failure":"closed","stall_ms":10,"when_ready":false,"labels":{},"uid":"3a0c958e-db9d-4ede-82b3-1f73a82f609d"},{"name":"fw","port":"fw-in","out_port":"fw-out","mode":"bump","direction":"both","on_failure":"open","stall_ms":10,"when_ready":false,"labels":{},"uid":"d5c61d71-a19f-4913-a5d5-85c53dddebf6"}]}');
INSERT INTO "object" VALUES('wire','tenant','w2','c52f06ba-fa68-44a2-b4f5-10363f51e56a',16,'{"a":"p1","b":null,"admin":"down","on_full":"wait","stall_ms":100,"labels":{},"tees":[{"name":"m","port":"default/ids","out_port":null,"mode":"off","direction":"both","on_failure":"closed","stall_ms":10,"when_ready":false,"labels":{},"uid":"ebda9496-bc30-45b2-bd66-6219f460663f"}]}');
CREATE TABLE audit (seq INTEGER PRIMARY KEY, time_ms INTEGER NOT NULL, uid INTEGER NOT NULL, gid INTEGER NOT NULL, pid INTEGER NOT NULL, client TEXT NOT NULL, method TEXT NOT NULL, path TEXT NOT NULL, generation INTEGER NOT NULL, status INTEGER NOT NULL);
INSERT INTO "audit" VALUES(3,1767268800123,0,0,4711,'patchbay','PUT','/v1/networks/tenant/wires/w2',16,201);
INSERT INTO "audit" VALUES(4,1767268801456,1000,1000,4712,'curl','PATCH','/v1/networks/tenant/wires/w2',17,200);
COMMIT;
