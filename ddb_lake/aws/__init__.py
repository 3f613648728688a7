"""AWS clients, objects, exports and the source table. The only home of boto3 and obstore."""
