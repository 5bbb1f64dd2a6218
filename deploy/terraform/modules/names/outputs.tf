output "settings" {
  description = "The names of topics and consumer groups, as the application is set to them."
  value = {
    FLASHSALE_REQUESTS_TOPIC    = local.requests
    FLASHSALE_ACCEPTED_TOPIC    = local.accepted
    FLASHSALE_ORDERS_TOPIC      = local.orders
    FLASHSALE_DEAD_LETTER_TOPIC = local.dead_letters
    FLASHSALE_CONSUMER_GROUP    = local.requests_group
    FLASHSALE_ACCEPTED_GROUP    = local.accepted_group
  }
}

output "topics" {
  description = "Each topic's configuration, by its name."
  value = {
    (local.requests) = local.shape
    (local.accepted) = local.shape
    (local.orders)   = local.shape
    # A dead letter's copy is larger than its original, by the headers that say why.
    (local.dead_letters) = merge(local.shape, { "max.message.bytes" = "2097152" })
  }
}

output "schemas" {
  description = "Each subject's schema, by its name."
  value = {
    for subject in local.subjects :
    subject => file("${coalesce(var.schemas_folder, "${path.module}/../../../../schemas")}/${subject}.avsc")
  }
}

output "rights" {
  description = "Who may do what, one operation each, in the words of Kafka's own tools."
  value = flatten([for right in local.rights : [for operation in right.operations : {
    who       = right.who
    kind      = right.kind
    name      = right.name
    pattern   = right.pattern
    operation = operation
  }]])
}
