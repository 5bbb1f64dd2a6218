# What Flashsale calls its topics, groups and subjects, what shape its topics have, and who may do
# what with them: for every module beside it. It makes nothing and needs no provider.

locals {
  requests     = "flashsale.purchase.requests"
  accepted     = "flashsale.purchase.accepted"
  orders       = "flashsale.orders"
  dead_letters = "flashsale.purchase.requests-dlt"

  requests_group = "flashsale-purchase-processor"
  accepted_group = "flashsale-purchase-accepted"

  shape = {
    "cleanup.policy" = "delete"
    "retention.ms"   = tostring(var.retention_days * 24 * 60 * 60 * 1000)
  }

  # Registered under the record's full name (docs/adr/0010).
  subjects = [
    "ch.luimode.flashsale.AvroPurchaseRequest",
    "ch.luimode.flashsale.Barrier",
    "ch.luimode.flashsale.OrderCreated",
    "ch.luimode.flashsale.PurchaseRejected",
    "ch.luimode.flashsale.PurchaseRequest",
    "ch.luimode.flashsale.PurchasesAccepted",
  ]

  # Who may do what: docs/security.md.
  rights = [
    { who = "operator", kind = "Topic", name = "flashsale.", pattern = "Prefixed", operations = ["Create", "Describe", "DescribeConfigs"] },
    { who = "api", kind = "Topic", name = "flashsale.", pattern = "Prefixed", operations = ["Describe"] },
    { who = "api", kind = "Topic", name = local.accepted, pattern = "Literal", operations = ["Write"] },
    { who = "worker", kind = "Topic", name = "flashsale.", pattern = "Prefixed", operations = ["Describe"] },
    { who = "worker", kind = "Topic", name = local.requests, pattern = "Literal", operations = ["Read"] },
    { who = "worker", kind = "Topic", name = local.accepted, pattern = "Literal", operations = ["Read", "Write"] },
    { who = "worker", kind = "Topic", name = local.orders, pattern = "Literal", operations = ["Write"] },
    { who = "worker", kind = "Topic", name = local.dead_letters, pattern = "Literal", operations = ["Write"] },
    { who = "worker", kind = "Group", name = local.requests_group, pattern = "Literal", operations = ["Read"] },
    { who = "worker", kind = "Group", name = local.accepted_group, pattern = "Literal", operations = ["Read"] },
    { who = "keda", kind = "Topic", name = local.requests, pattern = "Literal", operations = ["Describe"] },
    { who = "keda", kind = "Topic", name = local.accepted, pattern = "Literal", operations = ["Describe"] },
    { who = "keda", kind = "Group", name = local.requests_group, pattern = "Literal", operations = ["Describe"] },
    { who = "keda", kind = "Group", name = local.accepted_group, pattern = "Literal", operations = ["Describe"] },
  ]
}
