# shellcheck shell=bash disable=SC2016,SC2034,SC2153,SC2154
# AWS lets nobody hand its own emulator on, so this is another: ci/dynamodb, built here.
dynamodb_OPTIONS="" dynamodb_PORTS=1

# The sources it was built from: others make it anew.
dynamodb_packages() { (cd "$HERE/dynamodb" && sha256sum Cargo.toml Cargo.lock src/main.rs); }
# Built aside, so that the project's own build neither waits for it nor keeps it.
dynamodb_build() {
    needs cargo cargo
    say "dynamodb is built from ci/dynamodb, which takes a minute or two"
    # From the root folder, for it is no part of the workspace, whose .cargo/config.toml is found from every folder below.
    (cd / && CARGO_TARGET_DIR=$WORK/target cargo build --quiet --locked --manifest-path "$HERE/dynamodb/Cargo.toml") &&
        mkdir -p "$1/bin" && cp "$WORK/target/debug/dynamodb" "$1/bin/dynamodb"
}

dynamodb_url() {
    echo "dynamodb://any:any@kv-test/?endpoint=http://127.0.0.1:$(port 1)&region=us-east-1&create=true"
}
dynamodb_command() { COMMAND=("$(program dynamodb)" --port "$(port 1)" --db-path "$NODE_DIR/data/tables"); }
dynamodb_client() { misused "dynamodb has no client: use the AWS CLI, with --endpoint-url http://127.0.0.1:$(port 1)"; }
dynamodb_ready() { curl -sf -o /dev/null "http://127.0.0.1:$(port 1)/"; }

# dynamodb_ask OPERATION BODY
dynamodb_ask() {
    local key=AKIDEXAMPLE/20200101/us-east-1/dynamodb/aws4_request
    curl -sf "http://127.0.0.1:$(port 1)/" -H "x-amz-target: DynamoDB_20120810.$1" \
        -H 'content-type: application/x-amz-json-1.0' -H 'x-amz-date: 20200101T000000Z' \
        -H "authorization: AWS4-HMAC-SHA256 Credential=$key, SignedHeaders=host, Signature=none" -d "$2"
}
dynamodb_put() {
    dynamodb_ask CreateTable '{"TableName": "selftest", "BillingMode": "PAY_PER_REQUEST",
        "KeySchema": [{"AttributeName": "k", "KeyType": "HASH"}],
        "AttributeDefinitions": [{"AttributeName": "k", "AttributeType": "S"}]}' &&
        dynamodb_ask PutItem "{\"TableName\": \"selftest\", \"Item\": {\"k\": {\"S\": \"$1\"}, \"v\": {\"S\": \"$2\"}}}"
}
dynamodb_get() {
    dynamodb_ask GetItem "{\"TableName\": \"selftest\", \"Key\": {\"k\": {\"S\": \"$1\"}}}" |
        sed -E 's/.*"v": *\{"S": *"([^"]*)".*/\1/'
}
