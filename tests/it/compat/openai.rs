//! `/v1/embeddings` and `/v1/models`: shapes, errors, hostile input.

use reqwest::Method;
use serde_json::{Value, json};

use super::{embedded, many_texts, numbers, same};
use crate::app::{Answer, TestApp};

const MODEL: &str = "all-MiniLM-L6-v2";
const PATH: &str = "/v1/embeddings";

async fn ask(app: &TestApp, input: Value) -> Answer {
    app.post(PATH, json!({"model": MODEL, "input": input})).await
}

#[track_caller]
fn fails(answer: &Answer, status: u16, param: Option<&str>, code: Option<&str>, word: &str) {
    let error = &answer.body["error"];
    assert_eq!(answer.status.as_u16(), status, "{}", answer.body);
    assert_eq!(error["type"], "invalid_request_error", "{}", answer.body);
    assert_eq!((error["param"].as_str(), error["code"].as_str()), (param, code), "{}", answer.body);
    assert!(error["message"].as_str().unwrap().contains(word), "{} lacks {word:?}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_of_every_form_have_kindreds_own_embeddings() {
    let app = TestApp::start().await;
    let own = embedded(&["night nurse", "welder"]).await;
    let one = ask(&app, json!("night nurse")).await.ok();
    same(&numbers(&one["data"][0]["embedding"]), &own[0]);
    let shape = json!({"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": one["data"][0]["embedding"]}],
        "model": MODEL, "usage": {"prompt_tokens": 4, "total_tokens": 4}});
    assert_eq!(one, shape);
    // [CLS] night nurse [SEP], with and without the special tokens.
    for ids in [json!([2305, 6821]), json!([101, 2305, 6821, 102]), json!([[2305, 6821]])] {
        let answer = ask(&app, ids.clone()).await.ok();
        same(&numbers(&answer["data"][0]["embedding"]), &own[0]);
        assert_eq!(answer["usage"]["prompt_tokens"], 4, "{ids}");
    }
    let two = ask(&app, json!(["night   nurse\n", "welder"])).await.ok();
    for (data, own) in two["data"].as_array().unwrap().iter().zip(&own) {
        same(&numbers(&data["embedding"]), own);
    }
    // White space alone is a text: OpenAI takes it, too.
    assert_eq!(ask(&app, json!(" ")).await.ok()["usage"]["prompt_tokens"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_list_comes_back_whole_and_in_order() {
    let app = TestApp::start().await;
    let texts = many_texts();
    let own = embedded(&texts.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let answer = ask(&app, json!(texts)).await.ok();
    assert_eq!(answer["data"].as_array().unwrap().len(), texts.len());
    for (i, (data, own)) in answer["data"].as_array().unwrap().iter().zip(&own).enumerate() {
        assert_eq!(data["index"], i);
        same(&numbers(&data["embedding"]), own);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_embedded_is_400() {
    let app = TestApp::start().await;
    let long: Vec<u32> = vec![6821; 300];
    for (input, param, code, word) in [
        (json!(""), "input", None, "input 0 is empty"),
        (json!(["nurse", ""]), "input", None, "input 1 is empty"),
        (json!([]), "input", None, "no input"),
        (json!([[]]), "input", None, "input 0 is empty"),
        (json!(vec!["nurse"; 2049]), "input", None, "2049 inputs are over the limit of 2048"),
        (json!(["nurse", "nurse ".repeat(300)]), "input", Some("context_length_exceeded"), "256 tokens, but input 1 has 302"),
        (json!(long), "input", Some("context_length_exceeded"), "256 tokens, but input 0 has 302"),
        (json!([[6821], [30_522]]), "input", None, "30522 in text 1"),
        (json!(["nurse", [6821]]), "input", None, "side by side"),
        (json!(["nurse", 6821]), "input", None, "of their own"),
        (json!([6821, "nurse"]), "input", None, "of their own"),
        (json!([6821, -5]), "input[1]", None, "`-5`"),
        (json!([[6821, -5]]), "input[0][1]", None, "`-5`"),
        (json!([1.5]), "input[0]", None, "`1.5`"),
        (json!([4_294_967_296u64]), "input[0]", None, "4294967296"),
        (json!([[["nurse"]]]), "input[0][0]", None, "a token id"),
        (json!(7), "input", None, "token ids"),
        (json!(null), "input", None, "token ids"),
        (json!({"text": "nurse"}), "input", None, "token ids"),
    ] {
        fails(&ask(&app, input).await, 400, Some(param), code, word);
    }
    ask(&app, json!(vec!["nurse"; 3])).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_is_400() {
    let app = TestApp::start().await;
    let with = |key: &str, value: Value| {
        let mut body = json!({"model": MODEL, "input": "nurse"});
        body[key] = value;
        body
    };
    for (body, param, word) in [
        (json!({"input": "nurse"}), None, "`model`"),
        (json!({"model": MODEL}), None, "`input`"),
        (with("model", json!(7)), Some("model"), "string"),
        (with("encoding_format", json!("hex")), Some("encoding_format"), "`base64`"),
        (with("dimensions", json!(-1)), Some("dimensions"), "-1"),
        (with("dimensions", json!(0)), Some("dimensions"), "384"),
        (with("dimensions", json!(128)), Some("dimensions"), "384"),
        (with("dimensions", json!(385)), Some("dimensions"), "384"),
        (with("user", json!(["x"])), Some("user"), "string"),
        (with("inptu", json!("x")), Some("inptu"), "inptu"),
    ] {
        fails(&app.post(PATH, body).await, 400, param, None, word);
    }
    let deep = format!("{{\"model\": \"{MODEL}\", \"input\": {}", "[".repeat(200_000));
    for body in [deep.as_str(), "", "[1]", "{\"model\": ", "nurse"] {
        let answer = app.call(Method::POST, PATH, body.to_owned()).await;
        assert_eq!((answer.status.as_u16(), &answer.body["error"]["type"]), (400, &json!("invalid_request_error")), "{}", answer.body);
    }
    app.post(PATH, with("dimensions", json!(384))).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn another_models_name_is_404_and_too_much_is_413() {
    let app = TestApp::start_with(&["http.max_body_bytes=2000000"]).await;
    for name in ["text-embedding-3-small", "", "all-minilm-l6-v2"] {
        let answer = app.post(PATH, json!({"model": name, "input": "nurse"})).await;
        fails(&answer, 404, Some("model"), Some("model_not_found"), MODEL);
    }
    let answer = app.post(PATH, json!({"model": "m".repeat(1_000_000), "input": "nurse"})).await;
    assert!(answer.status == 404 && answer.body.to_string().len() < 1_000, "an error repeats no megabyte");
    fails(&ask(&app, json!("nurse ".repeat(180_000))).await, 413, Some("input"), None, "limits.max_text_bytes");
    fails(&app.call(Method::POST, PATH, " ".repeat(2_000_001)).await, 413, None, None, "max_body_bytes");
    fails(&app.get(PATH).await, 405, None, None, "method");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_loaded_model_is_the_only_one() {
    let app = TestApp::start().await;
    let list = app.get("/v1/models").await.ok();
    let created = list["data"][0]["created"].as_u64().unwrap();
    assert!(created > 1_700_000_000, "{list}");
    let model = json!({"id": MODEL, "object": "model", "created": created, "owned_by": "kindred"});
    assert_eq!(list, json!({"object": "list", "data": [model]}));
    assert_eq!(app.get(&format!("/v1/models/{MODEL}")).await.ok(), model);
    for other in ["other", "sentence-transformers%2Fall-MiniLM-L6-v2"] {
        fails(&app.get(&format!("/v1/models/{other}")).await, 404, Some("model"), Some("model_not_found"), MODEL);
    }
    fails(&app.get("/v1/models/a/b").await, 404, None, None, "openapi.json");
    fails(&app.get("/v1/models/%ff").await, 400, None, None, "path");
}
