-- The ledger's database is made by the image, from POSTGRES_USER.
CREATE DATABASE mlflow;
CREATE DATABASE mlflow_auth;
