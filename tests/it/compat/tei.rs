//! `/embed`, `/similarity`, `/tokenize`, `/info`, `/health`: shapes, errors, hostile input.

use reqwest::Method;
use serde_json::{Value, json};

use super::{embedded, many_texts, numbers, same};
use crate::app::{Answer, TestApp};

#[track_caller]
fn fails(answer: &Answer, status: u16, error_type: &str, word: &str) {
    assert_eq!((answer.status.as_u16(), &answer.body["error_type"]), (status, &json!(error_type)), "{}", answer.body);
    assert!(answer.body["error"].as_str().unwrap().contains(word), "{} lacks {word:?}", answer.body);
    assert_eq!(answer.body.as_object().unwrap().len(), 2, "{}", answer.body);
}

#[tokio::test(flavor = "multi_thread")]
async fn inputs_of_every_form_have_kindreds_own_embeddings() {
    let app = TestApp::start().await;
    let own = embedded(&["night nurse", "welder"]).await;
    for (inputs, n) in [
        (json!("night nurse"), 1),
        (json!([2305, 6821]), 1),
        (json!(["night nurse", "welder"]), 2),
        (json!([[101, 2305, 6821, 102], "welder"]), 2),
    ] {
        for path in ["/embed", "/"] {
            let answer = app.post(path, json!({"inputs": inputs, "unknown": {"keys": ["are", "ignored"]}})).await.ok();
            assert_eq!(answer.as_array().unwrap().len(), n, "{inputs}");
            for (i, own) in own.iter().take(n).enumerate() {
                same(&numbers(&answer[i]), own);
            }
        }
    }
    let texts = many_texts();
    let answer = app.post("/embed", json!({"inputs": texts})).await.ok();
    for (i, own) in embedded(&texts.iter().map(String::as_str).collect::<Vec<_>>()).await.iter().enumerate() {
        same(&numbers(&answer[i]), own);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn long_texts_are_refused_or_cut_at_the_end_that_is_named() {
    let app = TestApp::start().await;
    // A word is a token; the model takes 254 and two special ones.
    let (welders, nurses) = ("worker ".repeat(254), "nurse ".repeat(254));
    let text = format!("{welders}{nurses}");
    let embed = async |parameters: Value| {
        let mut body = json!({"inputs": [text]});
        body.as_object_mut().unwrap().extend(parameters.as_object().unwrap().clone());
        app.post("/embed", body).await
    };
    fails(&embed(json!({})).await, 413, "Validation", "256 tokens, but input 0 has 510");
    fails(&embed(json!({"truncate": false})).await, 413, "Validation", "510");
    fails(&embed(json!({"truncate": null, "truncation_direction": "Left"})).await, 413, "Validation", "510");
    let [whole, first, last] = embedded(&[&text, &welders, &nurses]).await.try_into().unwrap();
    same(&first, &whole);
    for (direction, wanted) in [("Right", &first), ("right", &first), ("Left", &last), ("left", &last)] {
        let answer = embed(json!({"truncate": true, "truncation_direction": direction})).await.ok();
        same(&numbers(&answer[0]), wanted);
    }
    let similar = json!({"inputs": {"source_sentence": nurses, "sentences": [text]}, "parameters": {"truncate": true, "truncation_direction": "Left"}});
    assert!((app.post("/similarity", similar).await.ok()[0].as_f64().unwrap() - 1.0).abs() < 1e-5);
    fails(&app.post("/embed", json!({"inputs": vec![6821; 300]})).await, 413, "Validation", "302");
    app.post("/embed", json!({"inputs": vec![6821; 300], "truncate": true})).await.ok();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_accepted_has_the_status_that_tei_gives_it() {
    let app = TestApp::start_with(&["http.max_body_bytes=2000000"]).await;
    let megabyte = "nurse ".repeat(180_000);
    for (body, status, error_type, word) in [
        (json!({"inputs": ""}), 400, "Empty", "input 0"),
        (json!({"inputs": []}), 400, "Empty", "no input"),
        (json!({"inputs": ["nurse", []]}), 400, "Empty", "input 1"),
        (json!({"inputs": vec!["nurse"; 2049]}), 413, "Validation", "2049"),
        (json!({"inputs": megabyte}), 413, "Validation", "limits.max_text_bytes"),
        (json!({"inputs": megabyte, "truncate": true}), 413, "Validation", "limits.max_text_bytes"),
        (json!({"inputs": [999_999]}), 422, "Tokenizer", "999999"),
        (json!({"inputs": "nurse", "normalize": false}), 413, "Validation", "normalize"),
        (json!({"inputs": "nurse", "prompt_name": "query"}), 413, "Validation", "prompt_name"),
        (json!({"inputs": "nurse", "dimensions": 128}), 413, "Validation", "384"),
        (json!({}), 400, "Validation", "`inputs`"),
        (json!({"inputs": 7}), 400, "Validation", "`inputs`"),
        (json!({"inputs": [-5]}), 400, "Validation", "`inputs[0]`"),
        (json!({"inputs": ["nurse", 7]}), 400, "Validation", "of their own"),
        (json!({"inputs": [["nurse"]]}), 400, "Validation", "`inputs[0][0]`"),
        (json!({"inputs": "nurse", "truncation_direction": "up"}), 400, "Validation", "truncation_direction"),
    ] {
        fails(&app.post("/embed", body.clone()).await, status, error_type, word);
        fails(&app.post("/", body).await, status, error_type, word);
    }
    let deep = format!("{{\"inputs\": {}", "[".repeat(200_000));
    fails(&app.call(Method::POST, "/embed", deep).await, 400, "Validation", "inputs");
    fails(&app.call(Method::POST, "/embed", " ".repeat(2_000_001)).await, 413, "Validation", "max_body_bytes");
    fails(&app.get("/embed").await, 405, "Validation", "method");
}

#[tokio::test(flavor = "multi_thread")]
async fn similarities_are_dot_products() {
    let app = TestApp::start().await;
    let own = embedded(&["night nurse", "ward nurse", "welder"]).await;
    let ask = async |inputs: Value| app.post("/similarity", json!({"inputs": inputs})).await;
    let scores = numbers(&ask(json!({"source_sentence": "night nurse", "sentences": ["ward nurse", "welder"]})).await.ok());
    let dot = |i: usize| own[0].iter().zip(&own[i]).map(|(a, b)| a * b).sum::<f32>();
    same(&scores, &[dot(1), dot(2)]);
    assert!(scores[0] > scores[1]);
    fails(&ask(json!({"source_sentence": "nurse", "sentences": []})).await, 400, "Empty", "no input");
    fails(&ask(json!({"source_sentence": "", "sentences": ["nurse"]})).await, 400, "Empty", "input 0");
    fails(&ask(json!({"source_sentence": "nurse", "sentences": [[1]]})).await, 413, "Validation", "texts");
    fails(&ask(json!({"source_sentence": "nurse", "sentences": vec!["a"; 2048]})).await, 413, "Validation", "2049");
    fails(&ask(json!({"source_sentence": 7, "sentences": ["a"]})).await, 400, "Validation", "source_sentence");
    fails(&ask(json!("nurse")).await, 400, "Validation", "source_sentence");
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_are_told_with_their_bytes() {
    let app = TestApp::start().await;
    let answer = app.post("/tokenize", json!({"inputs": "Nightshift café"})).await.ok();
    let expected = json!([[
        {"id": 101, "text": "[CLS]", "special": true, "start": null, "stop": null},
        {"id": 6385, "text": "Nights", "special": false, "start": 0, "stop": 6},
        {"id": 4048, "text": "hi", "special": false, "start": 6, "stop": 8},
        {"id": 6199, "text": "ft", "special": false, "start": 8, "stop": 10},
        {"id": 7668, "text": "café", "special": false, "start": 11, "stop": 16},
        {"id": 102, "text": "[SEP]", "special": true, "start": null, "stop": null}
    ]]);
    assert_eq!(answer, expected);
    // More than the model takes: all of it is told, with special tokens around it and not inside.
    let text = "night nurse ".repeat(1_000);
    for special in [true, false] {
        let answer = app.post("/tokenize", json!({"inputs": ["a", text], "add_special_tokens": special})).await.ok();
        let tokens = answer[1].as_array().unwrap();
        let n_special = if special { 2 } else { 0 };
        assert_eq!((answer[0].as_array().unwrap().len(), tokens.len()), (1 + n_special, 2_000 + n_special));
        let own = &tokens[n_special / 2..tokens.len() - n_special / 2];
        for (i, token) in own.iter().enumerate() {
            let (start, stop) = (token["start"].as_u64().unwrap() as usize, token["stop"].as_u64().unwrap() as usize);
            assert_eq!(&text[start..stop], ["night", "nurse"][i % 2]);
            assert_eq!(token["text"], ["night", "nurse"][i % 2]);
        }
    }
    let limit = "nurse ".repeat(30_000);
    fails(&app.post("/tokenize", json!({"inputs": [limit, limit]})).await, 413, "Validation", "limits.max_text_bytes");
    fails(&app.post("/tokenize", json!({"inputs": [[1]]})).await, 413, "Validation", "texts");
    fails(&app.post("/tokenize", json!({"inputs": []})).await, 400, "Empty", "no input");
    fails(&app.post("/tokenize", json!({"inputs": "a", "prompt_name": "query"})).await, 413, "Validation", "prompt_name");
}

#[tokio::test(flavor = "multi_thread")]
async fn info_and_health_answer() {
    let app = TestApp::start().await;
    let own = app.get("/v1/info").await.ok();
    let expected = json!({
        "model_id": "all-MiniLM-L6-v2", "model_sha": own["model"]["model_fingerprint"], "model_dtype": "float32",
        "model_type": {"embedding": {"pooling": "mean"}}, "max_concurrent_requests": 1024, "max_input_length": 256,
        "max_batch_tokens": 128, "max_batch_requests": null, "max_client_batch_size": 2048, "auto_truncate": false,
        "tokenization_workers": own["model"]["threads"], "version": own["version"], "sha": null, "docker_label": null
    });
    assert_eq!(app.get("/info").await.ok(), expected);
    assert_eq!(app.get("/health").await.ok(), "");
    fails(&app.delete("/health").await, 405, "Validation", "method");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_prompt_of_the_models_own_is_put_before_texts() {
    let models = tempfile::tempdir().unwrap();
    let fetched = crate::app::models().canonicalize().unwrap();
    std::os::unix::fs::symlink(fetched.join("onnxruntime"), models.path().join("onnxruntime")).unwrap();
    let folder = models.path().join("prompted");
    std::fs::create_dir(&folder).unwrap();
    for file in ["model.onnx", "tokenizer.json"] {
        std::os::unix::fs::symlink(fetched.join("all-MiniLM-L6-v2").join(file), folder.join(file)).unwrap();
    }
    let config = "name = \"prompted\"\ndims = 384\nmax_tokens = 256\npooling = \"mean\"\nnormalize = true\nquery_prompt = \"query: \"\n";
    std::fs::write(folder.join("kindred-model.toml"), config).unwrap();
    let data = tempfile::tempdir().unwrap();
    let settings = crate::app::settings(data.path(), &[&format!("encoder.model_dir={:?}", folder.display().to_string())]);
    let open = move || kindred::app::App::open(&settings, kindred::collection::Access::Serve).unwrap();
    let app = TestApp::serve(data, tokio::task::spawn_blocking(open).await.unwrap()).await;

    let with = app.post("/embed", json!({"inputs": "night nurse", "prompt_name": "query"})).await.ok();
    same(&numbers(&with[0]), &embedded(&["query: night nurse"]).await[0]);
    let sentences = json!({"source_sentence": "night nurse", "sentences": ["welder"]});
    let similar = app.post("/similarity", json!({"inputs": sentences, "parameters": {"prompt_name": "query"}})).await.ok();
    let both = embedded(&["query: night nurse", "query: welder"]).await;
    let expected: f32 = both[0].iter().zip(&both[1]).map(|(a, b)| a * b).sum();
    assert!((numbers(&similar)[0] - expected).abs() < 1e-5, "{similar}");
    let tokens = app.post("/tokenize", json!({"inputs": "nurse", "prompt_name": "query", "add_special_tokens": false})).await.ok();
    assert_eq!(tokens[0][0]["text"], "query", "{tokens}");
    for (body, word) in [
        (json!({"inputs": "nurse", "prompt_name": "document"}), "it has query"),
        (json!({"inputs": [6821], "prompt_name": "query"}), "token ids"),
    ] {
        fails(&app.post("/embed", body).await, 413, "Validation", word);
    }
}
