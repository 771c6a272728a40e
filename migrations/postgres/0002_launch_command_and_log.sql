-- Why:   the worker command of a backfill has options that stand in no row of Airflow's (--ignore-depends-on-past,
--        --pool): it is kept with the launch, so that an attempt after a restart runs the same command. And the last
--        lines of a failed pod's log are kept, since the pod, and with it the log of a killed worker, is soon gone.
-- Locks: ACCESS EXCLUSIVE on windlass.launch for the moment of a catalogue change; no row is rewritten.
-- Undo:  ALTER TABLE windlass.launch DROP COLUMN command, DROP COLUMN log_tail;

ALTER TABLE windlass.launch
    ADD COLUMN command jsonb,                             -- as handed over, where the rows do not tell it; else NULL
    ADD COLUMN log_tail text;                             -- of a pod that failed, once it was read
