BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE attestations (
	campaign INTEGER NOT NULL, 
	version VARCHAR(200) NOT NULL, 
	sites JSON NOT NULL, 
	envelope TEXT NOT NULL, 
	issued DATETIME, 
	PRIMARY KEY (campaign), 
	FOREIGN KEY(campaign) REFERENCES campaigns (number), 
	FOREIGN KEY(version) REFERENCES versions (name)
);
CREATE TABLE campaigns (
	number INTEGER NOT NULL, 
	kind VARCHAR(200) NOT NULL, 
	state VARCHAR(200) NOT NULL, 
	reason TEXT NOT NULL, 
	parent VARCHAR(200), 
	result VARCHAR(200), 
	created DATETIME NOT NULL, 
	changed DATETIME NOT NULL, 
	due DATETIME, 
	open BOOLEAN, 
	attempt INTEGER NOT NULL, 
	retry_at DATETIME, 
	run BIGINT, 
	series BIGINT, 
	settings JSON NOT NULL, 
	PRIMARY KEY (number), 
	UNIQUE (open)
);
INSERT INTO "campaigns" VALUES(1,'training','published','v0001, trained: a first model',NULL,'v0001','2026-05-01 12:00:00.000000','2026-05-01 12:00:00.000000',NULL,NULL,1,NULL,NULL,NULL,'{"experiment": {"data": {"image_size": 96, "max_tokens": 64, "tokenizer": "builtin", "cache_bytes": 8589934592, "split": {"validation": 0.1, "calibration": 0.15, "audit": 0.15, "test": 0.15}}, "model": {"image_encoder": "small_cnn", "text_encoder": "small_bert", "image_folder": "", "text_folder": "", "text_layers": 2, "frozen_text_layers": 0, "width": 16, "embedding": 64, "text_hidden": 64, "text_heads": 4, "dropout": 0.1, "norm": "group", "fusion_beta": 1.0, "ranking_weight": 0.1}, "train": {"rounds": 2, "patience": 5, "min_rounds": 1, "local_epochs": 1, "batch": 4, "micro_batch": 0, "lr": 0.001, "weight_decay": 0.01, "clip": 1.0}, "unlearn": {"method": "forget_mi_calibrated", "weighting": "equal", "noise": "both", "image_noise": 0.1, "text_noise": 0.5, "passes": 1, "batch": 32, "retain_batch": 8, "micro_batch": 0, "lr": 0.001, "weight_decay": 0.01, "clip": 1.0, "forget_weight": 1.0, "task_weight": 0.3, "push": 0.0, "renew": 3, "tolerance": 0.1}, "campaign": {"aggregation": "replace", "retention_rounds": 1, "retention_epochs": 1, "retention_lr_scale": 1.0, "references": 4}, "decision": {"auc_margin": 0.1, "ks_alpha": 0.05, "accuracy_margin": 0.1, "utility_tolerance": 0.05, "bootstrap": 50}, "wire": {"precision": "fp32"}, "seed": 0, "device": "auto"}, "policy": {"automatic": true, "min_batch": 1, "window_hours": 72.0, "lead_hours": 168.0, "undecided": "retrain", "escalate_hours": 48.0, "retry_minutes": 10.0, "quorum": 0.4, "phase_hours": 6.0, "campaigns_per_day": 4, "quarantine_days": 30.0}, "gate": {"train_norm": 10.0, "train_weights": 0.5, "unlearn_norm": 0.25, "bad_replies": 3}}');
INSERT INTO "campaigns" VALUES(2,'unlearning','unlearning','','v0001',NULL,'2026-05-01 12:00:00.000000','2026-05-01 12:00:00.000000',NULL,1,1,NULL,NULL,NULL,'{"experiment": {"data": {"image_size": 96, "max_tokens": 64, "tokenizer": "builtin", "cache_bytes": 8589934592, "split": {"validation": 0.1, "calibration": 0.15, "audit": 0.15, "test": 0.15}}, "model": {"image_encoder": "small_cnn", "text_encoder": "small_bert", "image_folder": "", "text_folder": "", "text_layers": 2, "frozen_text_layers": 0, "width": 16, "embedding": 64, "text_hidden": 64, "text_heads": 4, "dropout": 0.1, "norm": "group", "fusion_beta": 1.0, "ranking_weight": 0.1}, "train": {"rounds": 2, "patience": 5, "min_rounds": 1, "local_epochs": 1, "batch": 4, "micro_batch": 0, "lr": 0.001, "weight_decay": 0.01, "clip": 1.0}, "unlearn": {"method": "forget_mi_calibrated", "weighting": "equal", "noise": "both", "image_noise": 0.1, "text_noise": 0.5, "passes": 1, "batch": 32, "retain_batch": 8, "micro_batch": 0, "lr": 0.001, "weight_decay": 0.01, "clip": 1.0, "forget_weight": 1.0, "task_weight": 0.3, "push": 0.0, "renew": 3, "tolerance": 0.1}, "campaign": {"aggregation": "replace", "retention_rounds": 1, "retention_epochs": 1, "retention_lr_scale": 1.0, "references": 4}, "decision": {"auc_margin": 0.1, "ks_alpha": 0.05, "accuracy_margin": 0.1, "utility_tolerance": 0.05, "bootstrap": 50}, "wire": {"precision": "fp32"}, "seed": 0, "device": "auto"}, "policy": {"automatic": true, "min_batch": 1, "window_hours": 72.0, "lead_hours": 168.0, "undecided": "retrain", "escalate_hours": 48.0, "retry_minutes": 10.0, "quorum": 0.4, "phase_hours": 6.0, "campaigns_per_day": 4, "quarantine_days": 30.0}, "gate": {"train_norm": 10.0, "train_weights": 0.5, "unlearn_norm": 0.25, "bad_replies": 3}}');
CREATE TABLE deliveries (
	version VARCHAR(200) NOT NULL, 
	site VARCHAR(200) NOT NULL, 
	sent DATETIME NOT NULL, 
	purged DATETIME, 
	PRIMARY KEY (version, site), 
	FOREIGN KEY(site) REFERENCES sites (name), 
	FOREIGN KEY(version) REFERENCES versions (name)
);
INSERT INTO "deliveries" VALUES('v0001','north','2026-05-01 12:00:00.000000',NULL);
INSERT INTO "deliveries" VALUES('v0001','south','2026-05-01 12:00:00.000000',NULL);
CREATE TABLE events (
	id INTEGER NOT NULL, 
	at DATETIME NOT NULL, 
	campaign INTEGER, 
	site VARCHAR(200), 
	kind VARCHAR(200) NOT NULL, 
	detail TEXT NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(campaign) REFERENCES campaigns (number)
);
INSERT INTO "events" VALUES(1,'2026-05-01 12:00:00.000000',1,NULL,'state','planned: test');
INSERT INTO "events" VALUES(2,'2026-05-01 12:00:00.000000',1,NULL,'state','retraining: a first model');
INSERT INTO "events" VALUES(3,'2026-05-01 12:00:00.000000',1,NULL,'published','v0001');
INSERT INTO "events" VALUES(4,'2026-05-01 12:00:00.000000',1,NULL,'state','published: v0001, trained: a first model');
INSERT INTO "events" VALUES(5,'2026-05-01 12:00:00.000000',2,NULL,'state','planned: test');
INSERT INTO "events" VALUES(6,'2026-05-01 12:00:00.000000',2,NULL,'state','collecting');
INSERT INTO "events" VALUES(7,'2026-05-01 12:00:00.000000',2,NULL,'state','unlearning');
CREATE TABLE log_checkpoints (
	size INTEGER NOT NULL, 
	envelope TEXT NOT NULL, 
	PRIMARY KEY (size)
);
CREATE TABLE log_head (
	id INTEGER NOT NULL, 
	size INTEGER NOT NULL, 
	peaks TEXT NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "log_head" VALUES(1,0,'');
CREATE TABLE log_leaves (
	position INTEGER NOT NULL, 
	leaf TEXT NOT NULL, 
	PRIMARY KEY (position)
);
CREATE TABLE log_peers (
	origin VARCHAR(200) NOT NULL, 
	envelope TEXT NOT NULL, 
	seen DATETIME NOT NULL, 
	trouble TEXT NOT NULL, 
	PRIMARY KEY (origin)
);
CREATE TABLE log_vault (
	source VARCHAR(200) NOT NULL, 
	position INTEGER, 
	document TEXT NOT NULL, 
	salt VARCHAR(64) NOT NULL, 
	PRIMARY KEY (source), 
	UNIQUE (position)
);
CREATE TABLE phases (
	id INTEGER NOT NULL, 
	campaign INTEGER NOT NULL, 
	step VARCHAR(200) NOT NULL, 
	finished DATETIME NOT NULL, 
	weights VARCHAR(200) NOT NULL, 
	body JSON NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(campaign) REFERENCES campaigns (number), 
	UNIQUE (campaign, step)
);
INSERT INTO "phases" VALUES(1,1,'state:retraining','2026-05-01 12:00:00.000000','','{}');
INSERT INTO "phases" VALUES(2,1,'audit:trained','2026-05-01 12:00:00.000000','','{"groups": {"forget": {"image": {"patients": 0, "confusion": [[0, 0], [0, 0]], "auc": [{"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}, {"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}], "loss_sum": 0.0, "loss_median": null, "median_is": "exact", "losses": {"edges": [], "counts": []}}, "text": {"patients": 0, "confusion": [[0, 0], [0, 0]], "auc": [{"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}, {"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}], "loss_sum": 0.0, "loss_median": null, "median_is": "exact", "losses": {"edges": [], "counts": []}}, "fused": {"patients": 0, "confusion": [[0, 0], [0, 0]], "auc": [{"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}, {"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}], "loss_sum": 0.0, "loss_median": null, "median_is": "exact", "losses": {"edges": [], "counts": []}}}, "retain": {"image": {"patients": 0, "confusion": [[0, 0], [0, 0]], "auc": [{"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}, {"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}], "loss_sum": 0.0, "loss_median": null, "median_is": "exact", "losses": {"edges": [], "counts": []}}, "text": {"patients": 0, "confusion": [[0, 0], [0, 0]], "auc": [{"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}, {"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}], "loss_sum": 0.0, "loss_median": null, "median_is": "exact", "losses": {"edges": [], "counts": []}}, "fused": {"patients": 0, "confusion": [[0, 0], [0, 0]], "auc": [{"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}, {"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}], "loss_sum": 0.0, "loss_median": null, "median_is": "exact", "losses": {"edges": [], "counts": []}}}, "never_seen": {"image": {"patients": 0, "confusion": [[0, 0], [0, 0]], "auc": [{"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}, {"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}], "loss_sum": 0.0, "loss_median": null, "median_is": "exact", "losses": {"edges": [], "counts": []}}, "text": {"patients": 0, "confusion": [[0, 0], [0, 0]], "auc": [{"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}, {"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}], "loss_sum": 0.0, "loss_median": null, "median_is": "exact", "losses": {"edges": [], "counts": []}}, "fused": {"patients": 0, "confusion": [[0, 0], [0, 0]], "auc": [{"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}, {"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 0}], "loss_sum": 0.0, "loss_median": null, "median_is": "exact", "losses": {"edges": [], "counts": []}}}, "test": {"image": {"patients": 4, "confusion": [[2, 0], [2, 0]], "auc": [{"wins": 1.0, "pairs": 2, "positives": 2, "negatives": 2}, {"wins": 1.0, "pairs": 2, "positives": 2, "negatives": 2}], "loss_sum": 3.051322228895653, "loss_median": null, "median_is": "binned", "losses": {"edges": [], "counts": []}}, "text": {"patients": 4, "confusion": [[2, 0], [2, 0]], "auc": [{"wins": 2.0, "pairs": 2, "positives": 2, "negatives": 2}, {"wins": 2.0, "pairs": 2, "positives": 2, "negatives": 2}], "loss_sum": 3.009084814665847, "loss_median": null, "median_is": "binned", "losses": {"edges": [], "counts": []}}, "fused": {"patients": 4, "confusion": [[0, 2], [0, 2]], "auc": [{"wins": 0.0, "pairs": 2, "positives": 2, "negatives": 2}, {"wins": 0.0, "pairs": 2, "positives": 2, "negatives": 2}], "loss_sum": 2.955587167090303, "loss_median": null, "median_is": "binned", "losses": {"edges": [], "counts": []}}}}, "membership": {"image": {"forget_patients": 0, "control_patients": 0, "auc": null, "variance": null, "ks": null, "ks_p": null, "rmia_auc": null, "svc": null, "forget_studies": 0, "tpr_at_1pct_fpr": null, "accuracy_forget": null, "accuracy_control": null, "accuracy_variance": null, "missing": {"auc": "no patients to forget here", "variance": "no patients to forget here", "ks": "no patients to forget here", "ks_p": "no patients to forget here", "rmia_auc": "no patients to forget here", "svc": "no patients to forget here", "tpr_at_1pct_fpr": "no patients to forget here", "accuracy_forget": "no patients to forget here", "accuracy_control": "no patients to forget here", "accuracy_variance": "no patients to forget here"}}, "text": {"forget_patients": 0, "control_patients": 0, "auc": null, "variance": null, "ks": null, "ks_p": null, "rmia_auc": null, "svc": null, "forget_studies": 0, "tpr_at_1pct_fpr": null, "accuracy_forget": null, "accuracy_control": null, "accuracy_variance": null, "missing": {"auc": "no patients to forget here", "variance": "no patients to forget here", "ks": "no patients to forget here", "ks_p": "no patients to forget here", "rmia_auc": "no patients to forget here", "svc": "no patients to forget here", "tpr_at_1pct_fpr": "no patients to forget here", "accuracy_forget": "no patients to forget here", "accuracy_control": "no patients to forget here", "accuracy_variance": "no patients to forget here"}}, "fused": {"forget_patients": 0, "control_patients": 0, "auc": null, "variance": null, "ks": null, "ks_p": null, "rmia_auc": null, "svc": null, "forget_studies": 0, "tpr_at_1pct_fpr": null, "accuracy_forget": null, "accuracy_control": null, "accuracy_variance": null, "missing": {"auc": "no patients to forget here", "variance": "no patients to forget here", "ks": "no patients to forget here", "ks_p": "no patients to forget here", "rmia_auc": "no patients to forget here", "svc": "no patients to forget here", "tpr_at_1pct_fpr": "no patients to forget here", "accuracy_forget": "no patients to forget here", "accuracy_control": "no patients to forget here", "accuracy_variance": "no patients to forget here"}}}, "membership_by_site": {}, "test_by_site": {"north": {"patients": 2, "confusion": [[0, 1], [0, 1]], "auc": [{"wins": 0.0, "pairs": 1, "positives": 1, "negatives": 1}, {"wins": 0.0, "pairs": 1, "positives": 1, "negatives": 1}], "loss_sum": 1.4684861521443275, "loss_median": 0.7342430760721638, "median_is": "exact", "losses": {"edges": [], "counts": []}}, "south": {"patients": 2, "confusion": [[0, 1], [0, 1]], "auc": [{"wins": 0.0, "pairs": 1, "positives": 1, "negatives": 1}, {"wins": 0.0, "pairs": 1, "positives": 1, "negatives": 1}], "loss_sum": 1.4871010149459751, "loss_median": 0.7435505074729876, "median_is": "exact", "losses": {"edges": [], "counts": []}}}}');
INSERT INTO "phases" VALUES(3,1,'published','2026-05-01 12:00:00.000000','','{"version": "v0001", "how": "trained"}');
INSERT INTO "phases" VALUES(4,1,'state:published','2026-05-01 12:00:00.000000','','{}');
INSERT INTO "phases" VALUES(5,2,'state:collecting','2026-05-01 12:00:00.000000','','{}');
INSERT INTO "phases" VALUES(6,2,'collect','2026-05-01 12:00:00.000000','','{"forgetting": ["north"], "retain_studies": {"north": 2, "south": 3}, "patients": 1}');
INSERT INTO "phases" VALUES(7,2,'before','2026-05-01 12:00:00.000000','','{"groups": {"forget": {"image": {"patients": 1, "confusion": [[1, 0], [0, 0]], "auc": [{"wins": 0.0, "pairs": 0, "positives": 1, "negatives": 0}, {"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 1}], "loss_sum": 0.4054057547043659, "loss_median": 0.4054057547043659, "median_is": "exact", "losses": {"edges": [], "counts": []}}, "text": {"patients": 1, "confusion": [[1, 0], [0, 0]], "auc": [{"wins": 0.0, "pairs": 0, "positives": 1, "negatives": 0}, {"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 1}], "loss_sum": 0.40497847387166125, "loss_median": 0.40497847387166125, "median_is": "exact", "losses": {"edges": [], "counts": []}}, "fused": {"patients": 1, "confusion": [[0, 1], [0, 0]], "auc": [{"wins": 0.0, "pairs": 0, "positives": 1, "negatives": 0}, {"wins": 0.0, "pairs": 0, "positives": 0, "negatives": 1}], "loss_sum": 0.9693714049654152, "loss_median": 0.9693714049654152, "median_is": "exact", "losses": {"edges": [], "counts": []}}}, "retain": {"image": {"patients": 2, "confusion": [[1, 0], [1, 0]], "auc": [{"wins": 1.0, "pairs": 1, "positives": 1, "negatives": 1}, {"wins": 1.0, "pairs": 1, "positives": 1, "negatives": 1}], "loss_sum": 1.3086445659048742, "loss_median": 0.6543222829524371, "median_is": "exact", "losses": {"edges": [], "counts": []}}, "text": {"patients": 2, "confusion": [[1, 0], [1, 0]], "auc": [{"wins": 1.0, "pairs": 1, "positives": 1, "negatives": 1}, {"wins": 1.0, "pairs": 1, "positives": 1, "negatives": 1}], "loss_sum": 1.5045272487959682, "loss_median": 0.7522636243979841, "median_is": "exact", "losses": {"edges": [], "counts": []}}, "fused": {"patients": 2, "confusion": [[0, 1], [0, 1]], "auc": [{"wins": 1.0, "pairs": 1, "positives": 1, "negatives": 1}, {"wins": 1.0, "pairs": 1, "positives": 1, "negatives": 1}], "loss_sum": 1.4211404259853029, "loss_median": 0.7105702129926514, "median_is": "exact", "losses": {"edges": [], "counts": []}}}, "never_seen": {"image": {"patients": 2, "confusion": [[1, 0], [1, 0]], "auc": [{"wins": 1.0, "pairs": 1, "positives": 1, "negatives": 1}, {"wins": 1.0, "pairs": 1, "positives": 1, "negatives": 1}], "loss_sum": 1.405440029840825, "loss_median": 0.7027200149204125, "median_is": "exact", "losses": {"edges": [], "counts": []}}, "text": {"patients": 2, "confusion": [[1, 0], [1, 0]], "auc": [{"wins": 1.0, "pairs": 1, "positives": 1, "negatives": 1}, {"wins": 1.0, "pairs": 1, "positives": 1, "negatives": 1}], "loss_sum": 1.504486346153543, "loss_median": 0.7522431730767715, "median_is": "exact", "losses": {"edges": [], "counts": []}}, "fused": {"patients": 2, "confusion": [[0, 1], [0, 1]], "auc": [{"wins": 0.0, "pairs": 1, "positives": 1, "negatives": 1}, {"wins": 0.0, "pairs": 1, "positives": 1, "negatives": 1}], "loss_sum": 1.4542439580381292, "loss_median": 0.7271219790190646, "median_is": "exact", "losses": {"edges": [], "counts": []}}}, "test": {"image": {"patients": 4, "confusion": [[2, 0], [2, 0]], "auc": [{"wins": 1.0, "pairs": 2, "positives": 2, "negatives": 2}, {"wins": 1.0, "pairs": 2, "positives": 2, "negatives": 2}], "loss_sum": 3.051322228895653, "loss_median": null, "median_is": "binned", "losses": {"edges": [], "counts": []}}, "text": {"patients": 4, "confusion": [[2, 0], [2, 0]], "auc": [{"wins": 2.0, "pairs": 2, "positives": 2, "negatives": 2}, {"wins": 2.0, "pairs": 2, "positives": 2, "negatives": 2}], "loss_sum": 3.009084814665847, "loss_median": null, "median_is": "binned", "losses": {"edges": [], "counts": []}}, "fused": {"patients": 4, "confusion": [[0, 2], [0, 2]], "auc": [{"wins": 0.0, "pairs": 2, "positives": 2, "negatives": 2}, {"wins": 0.0, "pairs": 2, "positives": 2, "negatives": 2}], "loss_sum": 2.955587167090303, "loss_median": null, "median_is": "binned", "losses": {"edges": [], "counts": []}}}}, "membership": {"image": {"forget_patients": 1, "control_patients": 2, "auc": null, "variance": null, "ks": null, "ks_p": null, "rmia_auc": null, "svc": null, "forget_studies": 0, "tpr_at_1pct_fpr": null, "accuracy_forget": null, "accuracy_control": null, "accuracy_variance": null, "missing": {"auc": "needs 2 patients in each group", "variance": "needs 2 patients in each group", "ks": "needs 2 patients in each group", "ks_p": "needs 2 patients in each group", "rmia_auc": "needs 2 patients in each group", "svc": "needs 2 patients in each group", "tpr_at_1pct_fpr": "needs 2 patients in each group", "accuracy_forget": "needs 2 patients in each group", "accuracy_control": "needs 2 patients in each group", "accuracy_variance": "needs 2 patients in each group"}}, "text": {"forget_patients": 1, "control_patients": 2, "auc": null, "variance": null, "ks": null, "ks_p": null, "rmia_auc": null, "svc": null, "forget_studies": 0, "tpr_at_1pct_fpr": null, "accuracy_forget": null, "accuracy_control": null, "accuracy_variance": null, "missing": {"auc": "needs 2 patients in each group", "variance": "needs 2 patients in each group", "ks": "needs 2 patients in each group", "ks_p": "needs 2 patients in each group", "rmia_auc": "needs 2 patients in each group", "svc": "needs 2 patients in each group", "tpr_at_1pct_fpr": "needs 2 patients in each group", "accuracy_forget": "needs 2 patients in each group", "accuracy_control": "needs 2 patients in each group", "accuracy_variance": "needs 2 patients in each group"}}, "fused": {"forget_patients": 1, "control_patients": 2, "auc": null, "variance": null, "ks": null, "ks_p": null, "rmia_auc": null, "svc": null, "forget_studies": 0, "tpr_at_1pct_fpr": null, "accuracy_forget": null, "accuracy_control": null, "accuracy_variance": null, "missing": {"auc": "needs 2 patients in each group", "variance": "needs 2 patients in each group", "ks": "needs 2 patients in each group", "ks_p": "needs 2 patients in each group", "rmia_auc": "needs 2 patients in each group", "svc": "needs 2 patients in each group", "tpr_at_1pct_fpr": "needs 2 patients in each group", "accuracy_forget": "needs 2 patients in each group", "accuracy_control": "needs 2 patients in each group", "accuracy_variance": "needs 2 patients in each group"}}}, "membership_by_site": {"north": {"image": {"forget_patients": 1, "control_patients": 2, "auc": null, "variance": null, "ks": null, "ks_p": null, "rmia_auc": null, "svc": null, "forget_studies": 0, "tpr_at_1pct_fpr": null, "accuracy_forget": null, "accuracy_control": null, "accuracy_variance": null, "missing": {"auc": "needs 2 patients in each group", "variance": "needs 2 patients in each group", "ks": "needs 2 patients in each group", "ks_p": "needs 2 patients in each group", "rmia_auc": "needs 2 patients in each group", "svc": "needs 2 patients in each group", "tpr_at_1pct_fpr": "needs 2 patients in each group", "accuracy_forget": "needs 2 patients in each group", "accuracy_control": "needs 2 patients in each group", "accuracy_variance": "needs 2 patients in each group"}}, "text": {"forget_patients": 1, "control_patients": 2, "auc": null, "variance": null, "ks": null, "ks_p": null, "rmia_auc": null, "svc": null, "forget_studies": 0, "tpr_at_1pct_fpr": null, "accuracy_forget": null, "accuracy_control": null, "accuracy_variance": null, "missing": {"auc": "needs 2 patients in each group", "variance": "needs 2 patients in each group", "ks": "needs 2 patients in each group", "ks_p": "needs 2 patients in each group", "rmia_auc": "needs 2 patients in each group", "svc": "needs 2 patients in each group", "tpr_at_1pct_fpr": "needs 2 patients in each group", "accuracy_forget": "needs 2 patients in each group", "accuracy_control": "needs 2 patients in each group", "accuracy_variance": "needs 2 patients in each group"}}, "fused": {"forget_patients": 1, "control_patients": 2, "auc": null, "variance": null, "ks": null, "ks_p": null, "rmia_auc": null, "svc": null, "forget_studies": 0, "tpr_at_1pct_fpr": null, "accuracy_forget": null, "accuracy_control": null, "accuracy_variance": null, "missing": {"auc": "needs 2 patients in each group", "variance": "needs 2 patients in each group", "ks": "needs 2 patients in each group", "ks_p": "needs 2 patients in each group", "rmia_auc": "needs 2 patients in each group", "svc": "needs 2 patients in each group", "tpr_at_1pct_fpr": "needs 2 patients in each group", "accuracy_forget": "needs 2 patients in each group", "accuracy_control": "needs 2 patients in each group", "accuracy_variance": "needs 2 patients in each group"}}}}, "test_by_site": {"north": {"patients": 2, "confusion": [[0, 1], [0, 1]], "auc": [{"wins": 0.0, "pairs": 1, "positives": 1, "negatives": 1}, {"wins": 0.0, "pairs": 1, "positives": 1, "negatives": 1}], "loss_sum": 1.4684861521443275, "loss_median": 0.7342430760721638, "median_is": "exact", "losses": {"edges": [], "counts": []}}, "south": {"patients": 2, "confusion": [[0, 1], [0, 1]], "auc": [{"wins": 0.0, "pairs": 1, "positives": 1, "negatives": 1}, {"wins": 0.0, "pairs": 1, "positives": 1, "negatives": 1}], "loss_sum": 1.4871010149459751, "loss_median": 0.7435505074729876, "median_is": "exact", "losses": {"edges": [], "counts": []}}}}');
INSERT INTO "phases" VALUES(8,2,'state:unlearning','2026-05-01 12:00:00.000000','','{}');
INSERT INTO "phases" VALUES(9,2,'unlearn:north','2026-05-01 12:00:00.000000','c37d4ef3530b5ffaddc15c335b07d990461e1e5b2ba65a6c21c63309d2855f42','{"reply": {"site": "north", "passes": 1, "gaps": [0.09474813938140869, 1.7881393432617188e-07, 0.02891823649406433], "cost": 14.0, "seconds": 0.28522776500176406}, "cost": {"forward_units": 14.0, "seconds": 0.4263757959997747, "bytes_up": 129032.0, "bytes_down": 129032.0}}');
CREATE TABLE sites (
	name VARCHAR(200) NOT NULL, 
	state VARCHAR(200) NOT NULL, 
	node BIGINT, 
	node_key TEXT NOT NULL, 
	signing_key TEXT NOT NULL, 
	certificate TEXT NOT NULL, 
	enrolled DATETIME NOT NULL, 
	revoked DATETIME, 
	bad_replies INTEGER NOT NULL, 
	pending INTEGER NOT NULL, 
	first_due DATETIME, 
	announced DATETIME, 
	seen DATETIME, 
	version VARCHAR(200) NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "sites" VALUES('north','active',NULL,'','','','2026-05-01 12:00:00.000000',NULL,0,0,NULL,NULL,NULL,'');
INSERT INTO "sites" VALUES('south','active',NULL,'','','','2026-05-01 12:00:00.000000',NULL,0,0,NULL,NULL,NULL,'');
CREATE TABLE versions (
	name VARCHAR(200) NOT NULL, 
	state VARCHAR(200) NOT NULL, 
	parent VARCHAR(200), 
	campaign INTEGER, 
	manifest_digest VARCHAR(200) NOT NULL, 
	created DATETIME NOT NULL, 
	state_since DATETIME NOT NULL, 
	weights_deleted DATETIME, 
	manifest JSON NOT NULL, 
	PRIMARY KEY (name), 
	FOREIGN KEY(campaign) REFERENCES campaigns (number), 
	FOREIGN KEY(parent) REFERENCES versions (name)
);
INSERT INTO "versions" VALUES('v0001','active',NULL,1,'f415603bbcb69010dcd0361a444367008b658a9796ad8e3e085267e93c0591df','2026-05-01 12:00:00.000000','2026-05-01 12:00:00.000000',NULL,'{"schema_version": 1, "name": "v0001", "created": "2026-05-01T12:00:00Z", "parent": null, "campaign": 1, "weights": "b2a4e835055839a09e675e054fc3f98e23fb25044a10c974e26053df0c678566", "files": {"model.json": "fedab947d30eaa33b35cea59e64aabb761bd834ad69f4f4d2173e15b46d50a3d", "model.safetensors": "7bd04aa9189cf573be2e9df6f4dcc5c8006be9dddd237458bd049d795ec45f55"}, "provenance": {"round": 1, "run": null, "code": "0.2.0", "config": "1c1e9955125740b8377f8e3a2cb36719565603de7f53b62eadc579563a739793", "sites": ["north", "south"], "metrics": [{"name": "test AUC of clear at north", "value": 0.0, "low": 0.0, "high": 0.98, "patients": 2, "missing": ""}, {"name": "test AUC of opacity at north", "value": 0.0, "low": 0.0, "high": 0.98, "patients": 2, "missing": ""}, {"name": "test AUC of clear at south", "value": 0.0, "low": 0.0, "high": 0.98, "patients": 2, "missing": ""}, {"name": "test AUC of opacity at south", "value": 0.0, "low": 0.0, "high": 0.98, "patients": 2, "missing": ""}, {"name": "membership AUC, image, forgotten against never-seen patients (.5 is the aim)", "value": null, "low": null, "high": null, "patients": null, "missing": "no patients to forget here"}, {"name": "membership AUC, text, forgotten against never-seen patients (.5 is the aim)", "value": null, "low": null, "high": null, "patients": null, "missing": "no patients to forget here"}, {"name": "membership AUC, fused, forgotten against never-seen patients (.5 is the aim)", "value": null, "low": null, "high": null, "patients": null, "missing": "no patients to forget here"}]}}');
COMMIT;
