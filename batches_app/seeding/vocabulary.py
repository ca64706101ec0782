"""What tenants, batches and failures are called."""

from typing import NamedTuple

ACCOUNTS = (
    "Nordlicht Search", "青云科技", "Acme Retail", "Helvetia Claims", "Blue Harbor Logistics", "杭州云帆数据",
    "Lumen Health", "Kestrel Legal", "Ostrava Energy", "Pinecone Travel", "晨星教育", "Fjord Analytics",
    "Maison Verte", "Quill & Co.", "北辰金融", "Atlas Mapping", "Bright Owl Media", "Tamarind Foods",
    "Vega Semiconductors", "Clearwater Bank", "深圳光年互动", "Rook Security", "Sable Games", "Orchard Genomics",
    "Zephyr Airlines", "Copperfield Press", "海棠文学网", "Delta Utilities", "Ember Robotics", "Foxglove Pharma",
    "Granite Insurance", "Hollow Oak Studio", "星河出行", "Ivory Telecom", "Juniper Schools", "Kite Weather",
    "Larkspur Hotels", "Monsoon Textiles", "Nimbus Backup", "Ōtaki Fisheries",
)  # fmt: skip

TASKS = (
    "nightly summaries", "product descriptions", "support tickets", "商品描述生成", "contract clauses",
    "评论情感分析", "eval", "catalogue translation", "claims triage", "knowledge base embeddings", "invoice fields",
    "新闻摘要", "call transcripts", "moderation backlog", "search relevance labels", "客服对话质检",
    "SQL explanations", "résumé parsing", "patent abstracts", "题库解析", "synthetic dialogues", "alt texts",
)  # fmt: skip
# Said to be short, and some are not.
LONG_NAMES = (
    "backfill of every product description since the migration, second attempt, with the corrected prompt",
    "重新生成全部历史商品描述（修正提示词之后的第二次尝试，包含所有下架商品与海外站点）",
    "ملخصات ليلية",
)
TEAMS = ("search", "growth", "risk", "数据平台", "content", "ml-platform")

QUESTIONS = (
    "Summarize the ticket in one sentence, and say whether the customer is still waiting for an answer.",
    "把下面的商品标题翻译成英文，保留品牌名：夏季新款透气网面跑步鞋 男女同款",
    "Extract the invoice number, the due date and the total as JSON.",
    "Which clause of the contract limits liability? Quote it and explain it to somebody who is not a lawyer.",
    "请判断这条评论的情感倾向，并用一句话说明理由：物流很快，就是包装有点破损。",
    "Write an alt text of at most 120 characters for a photograph of a harbour at dusk.",
)

ANSWERS = (
    "The customer was refunded on Monday and is not waiting for an answer.",
    "Summer breathable mesh running shoes for men and women, new style",
    '{"invoice": "2026-1107", "due": "2026-12-01", "total": "1,240.00 EUR"}',
    "情感倾向：整体正面。物流评价积极，包装评价略有不满。",
    "A harbour at dusk: three fishing boats at a stone quay, lights on the hill behind.",
)


class Trouble(NamedTuple):
    """Why lines fail, and how often compared to the others."""

    code: str
    message: str
    weight: int


TROUBLES = (
    Trouble(
        "http_400 context_length_exceeded",
        "This model's maximum context length is 32768 tokens. However, your messages resulted in 41207 tokens.",
        30,
    ),
    Trouble("http_500", "Internal server error", 18),
    Trouble("timeout", "The upstream did not finish its answer within 900 s.", 14),
    Trouble("http_400 invalid_value", "Invalid value for 'temperature': 7.5. It must be between 0 and 2.", 12),
    Trouble("http_403 content_policy_violation", "The request was rejected by the content filter.", 8),
    Trouble("connection_error", "The upstream closed the connection in the middle of its answer.", 7),
    Trouble("invalid_response", "The upstream's answer is not a JSON object in UTF-8.", 6),
    Trouble("http_422", "图片无法解码：文件头损坏", 5),
)
UNRUN = {
    "cancelled": Trouble("batch_cancelled", "The batch was cancelled before this request was finished.", 0),
    "expired": Trouble("batch_expired", "The batch expired before this request was finished.", 0),
}
VIOLATIONS = (
    ("invalid_json_line", "The line is not valid JSON: unexpected end of data.", None),
    ("missing_required_parameter", "Missing required parameter: 'custom_id'.", "custom_id"),
    ("duplicate_custom_id", "Duplicate custom_id: 'row-17' is already that of line 17.", "custom_id"),
    ("model_not_found", "The model 'qwen-max-latest' does not exist.", "body.model"),
    ("mismatched_model", "Another model, 'glm-4.6'. All lines of a file must have the same.", "body.model"),
    ("invalid_url", "Invalid url: '/chat/completions'. It must be the batch's endpoint.", "url"),
)  # fmt: skip

THROTTLED = "Rate limit reached for this model: 1,200 requests a minute. Please try again in 20 s."
DOWN = "Failed to connect to glm.upstream.example port 8000: Connection refused"
